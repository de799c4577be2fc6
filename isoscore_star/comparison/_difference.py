"""The difference of two scores and of their log PR, with intervals: of pairs, or of two samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from isoscore_star.comparison._sides import POINTS, Side, freedom_of
from isoscore_star.core import interval
from isoscore_star.core.accumulator import BLOCK_ROWS

Interval = tuple[float, float]

_STORED = 1e-6
"""Difference of log PR that float32 files of the same points may have: their rounding of 6e-8 times a mean of some ten
standard deviations. A millionth of the effective dimensions is no finding in any case."""

LOG, SCORE = 0, 1  # places in `Influences`


class Estimate(NamedTuple):
    """A difference, its standard error and 95 % interval; both None where no standard error is known."""

    value: float
    error: float | None = None
    interval: Interval | None = None


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
    unpaired = [_unpaired(value, first, second, which) for which, value in enumerate(values)]
    own = [_paired(value, first, second, which) for which, value in enumerate(values)] if paired else unpaired
    return Difference(own[SCORE], own[LOG], unpaired[LOG])


def can_pair(first: Side, second: Side) -> bool:
    """Return whether both have what leaving out each of the same units adds."""
    return first.influences is not None and second.influences is not None


def rounding(first: Side, second: Side) -> float:
    """Return how far the log PR of two computations of the same score may lie apart.

    Sums within a block of rows have errors of about √m·ε, by λ = 8 as in `isoscore_star.core.score`; sums of blocks are
    kept in float64. Points that were stored in float32 are rounded themselves.
    """
    precisions = [side.moments.spread().precision for side in (first, second) if side.moments is not None]
    count = max(first.measurement.count, second.measurement.count)
    return max(_STORED, 8 * max(precisions, default=2.0**-52) * (1 + math.sqrt(min(count, BLOCK_ROWS))))


def _paired(value: float, first: Side, second: Side, which: int) -> Estimate:
    assert first.influences is not None
    assert second.influences is not None
    ours, its = first.influences[which], second.influences[which]
    length = max(len(ours), len(its))  # the last groups may have points in one of both only
    ours, its = (np.append(values, np.zeros(length - len(values))) for values in (ours, its))
    changes = its - ours
    sums = float(ours @ ours), float(its @ its), float(ours @ its)
    if not changes.any():
        sums = sums[0], sums[0], sums[0]  # without the rounding of sums
    # Sketches of two clouds err apart, which the blocks of either do not show.
    own, other = _of_sketch(first, which), _of_sketch(second, which)
    if value:
        sums = sums[0] + own, sums[1] + other, sums[2]
    variance = float(changes @ changes) + (own + other if value else 0.0)
    return _estimate(value, first, second, sums, variance, freedom_of(changes, first.unit), which)


def _of_sketch(side: Side, which: int) -> float:
    """Return the variance that a sketch adds."""
    error = side.measurement.sketch_error or 0.0
    return (error if which == LOG else error * side.ratio / (side.measurement.dim - 1)) ** 2


def _unpaired(value: float, first: Side, second: Side, which: int) -> Estimate:
    """Add the variances; degrees of freedom by Welch & Satterthwaite."""
    errors = first.errors, second.errors
    if errors[0] is None or errors[1] is None:
        return Estimate(value)
    variances = [error[which] ** 2 for error in errors if error is not None]
    total = sum(variances)
    spread = sum(v * v / side.freedom for v, side in zip(variances, (first, second), strict=True))
    freedom = total * total / spread if spread else math.inf
    return _estimate(value, first, second, (variances[0], variances[1], 0.0), total, freedom, which)


def _estimate(
    value: float,
    first: Side,
    second: Side,
    sums: tuple[float, float, float],
    variance: float,
    freedom: float,
    which: int,
) -> Estimate:
    """Return the interval by the sums of squares of the deviations of both and of their products."""
    ours, its = (
        interval.Known(side.ratio, total, side.unit != POINTS, None if which == LOG else side.measurement.dim - 1)
        for side, total in zip((first, second), sums[:2], strict=True)
    )
    low, high = interval.of_difference(ours, its, sums[2], freedom)
    return Estimate(value, math.sqrt(variance), (value + low, value + high))
