"""Errors with λ = 0, where a run equals one without the penalty even if the score cannot be measured."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from isoscore_star import IsoScoreError

LOGGER = logging.getLogger("isoscore_star")


class OnlyMeasured:
    """Logs the first error of a penalty whose weight is 0, instead of raising it."""

    def __init__(self) -> None:
        self.failed = False

    @contextlib.contextmanager
    def unless(self, lam: float, schedule: object = None) -> Iterator[None]:
        """Log errors of the with block; raise them if λ is not 0, or has a schedule."""
        try:
            yield
        except IsoScoreError as error:
            if lam != 0 or schedule is not None:
                raise
            if not self.failed:
                self.failed = True
                LOGGER.warning("lam is 0, so that training goes on, but without the score: %s", error)
