"""The difference of two scores and of their log PR, with intervals: of pairs, or of two samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from isoscore_star.comparison._sides import Side, freedom_of
from isoscore_star.core.accumulator import BLOCK_ROWS

Interval = tuple[float, float]


class Estimate(NamedTuple):
    """A difference, its standard error and degrees of freedom; both None where no standard error is known."""

    value: float
    error: float | None = None
    freedom: float | None = None

    @property
    def half_width(self) -> float | None:
        """What the 95 % interval reaches to both sides."""
        if self.error is None or self.freedom is None:
            return None
        quantile = ndtri(0.975) if math.isinf(self.freedom) else stdtrit(self.freedom, 0.975)
        return float(quantile) * self.error if self.error else 0.0

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval."""
        half = self.half_width
        return None if half is None else (self.value - half, self.value + half)


class Difference(NamedTuple):
    """B less A: of the score and of log PR; log PR also as if the two were samples of their own."""

    score: Estimate
    log_ratio: Estimate
    unpaired: Estimate


def difference(first: Side, second: Side, *, paired: bool) -> Difference:
    """Compute the difference; `paired` where the same rows, groups or blocks were left out of both."""
    ours, its = first.measurement, second.measurement
    if ours.unbiased_score is None or its.unbiased_score is None or min(first.ratio, second.ratio) <= 0:
        ratios = (1 + (side.measurement.dim - 1) * side.measurement.score for side in (first, second))
        log_a, log_b = map(math.log, ratios)
        alone = Estimate(log_b - log_a)
        return Difference(Estimate(its.score - ours.score), alone, alone)
    values = math.log(second.ratio) - math.log(first.ratio), its.unbiased_score - ours.unbiased_score
    of_log, of_score = (_unpaired(value, first, second, i) for i, value in enumerate(values))
    if not paired:
        return Difference(of_score, of_log, of_log)
    return Difference(_paired(values[1], first, second, 1), _paired(values[0], first, second, 0), of_log)


def can_pair(first: Side, second: Side) -> bool:
    """Return whether both have what leaving out each of the same units adds."""
    return first.influences is not None and second.influences is not None


def rounding(first: Side, second: Side) -> float:
    """Return how far the log PR of two computations of the same score may lie apart.

    Sums within a block of rows have errors of about √m·ε, by λ = 8 as in `isoscore_star.core.score`; sums of blocks are
    kept in float64.
    """
    precisions = [side.moments.spread().precision for side in (first, second) if side.moments is not None]
    count = max(first.measurement.count, second.measurement.count)
    return 8 * max(precisions, default=2.0**-52) * (1 + math.sqrt(min(count, BLOCK_ROWS)))


def _paired(value: float, first: Side, second: Side, which: int) -> Estimate:
    assert first.influences is not None
    assert second.influences is not None
    ours, its = first.influences[which], second.influences[which]
    length = max(len(ours), len(its))  # the last groups may have points in one of both only
    changes = np.zeros(length)
    changes[: len(its)] += its
    changes[: len(ours)] -= ours
    return Estimate(value, math.sqrt(float(changes @ changes)), freedom_of(changes, first.unit))


def _unpaired(value: float, first: Side, second: Side, which: int) -> Estimate:
    """Add the variances; degrees of freedom by Welch & Satterthwaite."""
    errors = first.errors, second.errors
    if errors[0] is None or errors[1] is None:
        return Estimate(value)
    variances = [error[which] ** 2 for error in errors if error is not None]
    total = sum(variances)
    spread = sum(v * v / side.freedom for v, side in zip(variances, (first, second), strict=True))
    return Estimate(value, math.sqrt(total), total * total / spread if spread else math.inf)
