"""The exponential average of the batches' covariances, in `keras.ops`, for a layer that keeps it as weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from isoscore_star.backends.keras.moments import batch_sums
from isoscore_star.core.checks import Points
from isoscore_star.core.sampling import sample_of, sampled
from isoscore_star.core.scaling import larger, not_zero


class Average(NamedTuple):
    """The average, and the weight of all batches in it, for its bias correction: 0 before the first."""

    cov: Any
    averaged: Any


def covariance_of(clouds: Sequence[Any], masks: Sequence[Any], dtype: str) -> Any:
    """Compute the covariance of a batch, without gradient; zero for fewer than two points."""
    sums = batch_sums(clouds, masks, dtype)
    return sums.scatter / larger(sums.count - 1, 1, ops.where) * sums.unit * sums.unit


def covariance_of_sample(cloud: Points, most: int, dtype: str) -> Any:
    """Compute the covariance of about `most` points of a batch."""
    sample = sampled(cloud, sample_of(cloud.arrays, most, cloud.backend))
    return covariance_of(sample.arrays, sample.given_masks, dtype)


def with_batch(average: Average, batch: Any, decay: float) -> Average:
    """Take a batch in, unless its variance is zero or not finite; the first one is the average."""
    total = ops.trace(batch)
    usable = ops.logical_and(total > 0, total - total == 0)
    step = ops.cast(usable, batch.dtype) * (1 - decay)
    averaged = average.averaged * (1 - step) + step
    step = step / not_zero(averaged, ops.where)
    cov = ops.where(usable, batch, average.cov)
    return Average(average.cov + step * (cov - average.cov), averaged)
