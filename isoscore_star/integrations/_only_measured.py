"""What a run with λ = 0 promises: to equal one without the penalty, whatever may come of measuring."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from isoscore_star.core.errors import IsoScoreError

LOGGER = logging.getLogger("isoscore_star")


class OnlyMeasured:
    """Lets a penalty of weight 0 fail, and tells so once.

    Attributes
    ----------
    failed : bool
        Whether it ever did.
    """

    def __init__(self) -> None:
        self.failed = False

    @contextlib.contextmanager
    def unless(self, lam: float) -> Iterator[None]:
        """Run what is inside; with another λ than 0 its errors are raised."""
        try:
            yield
        except IsoScoreError as error:
            if lam != 0:
                raise
            if not self.failed:
                self.failed = True
                LOGGER.warning("lam is 0, so that training goes on, but without the score: %s", error)
