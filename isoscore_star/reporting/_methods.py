"""`Reported`: the methods of what can be drawn and reported on."""

from __future__ import annotations

from typing import Any

from isoscore_star.reporting._figures import plot
from isoscore_star.reporting._fragment import fragment
from isoscore_star.reporting._frame import to_frame
from isoscore_star.reporting._page import to_html


class Reported:
    """What is inherited by `Measurement`, `Scan` and `Comparison`."""

    def plot(self, ax: Any = None) -> Any:
        """Draw the spectrum, the layers or the differences into `ax`, or a new figure; see `reporting.plot`."""
        return plot(self, ax)

    def to_html(self, name: str | None = None) -> str:
        """Write a report as one HTML page; see `isoscore_star.reporting.to_html`."""
        return to_html(self, name)

    def to_frame(self) -> Any:
        """Make a table for pandas or polars, a row for each layer; see `isoscore_star.reporting.to_frame`."""
        return to_frame(self)

    def _repr_html_(self) -> str:
        return fragment(self)
