"""The points farthest from the mean, kept while points stream by once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT = 16
"""Ten are looked at in the end; the mean moves while points arrive, so that some more are kept."""


class Farthest:
    """Keeps the rows farthest from the mean of all rows so far.

    A point may be missed that lies about as far as those that are kept; one that holds a visible share of the variance
    is not.
    """

    def __init__(self) -> None:
        self._count, self._sum = 0, np.zeros(0)
        self.rows: NDArray[np.float64] = np.zeros((0, 0))

    def take(self, rows: NDArray[Any]) -> None:
        """Take in finite rows."""
        if not len(rows):
            return
        total = rows.sum(axis=0, dtype=np.float64)
        self._sum = self._sum + total if self._count else total
        self._count += len(rows)
        mean = self._sum / self._count
        new = rows[self._places(rows - mean.astype(rows.dtype))].astype(np.float64)
        self.keep(new)

    def keep(self, rows: NDArray[np.float64]) -> None:
        """Offer rows, such as those that another one kept, without their part of the mean."""
        rows = np.concatenate([self.rows, rows]) if len(self.rows) else rows
        self.rows = rows[self._places(rows - self._sum / self._count)]

    def merge(self, other: Farthest) -> None:
        """Take in the rows of another one."""
        if other._count:
            self._sum = self._sum + other._sum if self._count else other._sum
            self._count += other._count
            self.keep(other.rows)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is kept, for a file."""
        return {"count": np.array(self._count), "sum": self._sum, "rows": self.rows}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Farthest:
        """Return what `to_arrays` took apart."""
        found = cls()
        found._count, found._sum, found.rows = int(arrays["count"]), arrays["sum"], arrays["rows"]
        return found

    @staticmethod
    def _places(away: NDArray[Any]) -> NDArray[np.int64]:
        with np.errstate(over="ignore"):
            unit = float(np.abs(away).max()) or 1.0  # so that squares stay in range
            away = away / away.dtype.type(unit)
        return np.argsort(-np.einsum("ij,ij->i", away, away), kind="stable")[:_KEPT]
