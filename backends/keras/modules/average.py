"""The exponential average of the batches' covariances, in `keras.ops`, for a layer that keeps it as weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from isoscore_star.backends.keras.moments import batch_sums
from isoscore_star.core.checks import Points
from isoscore_star.core.sampling import sample_of
from isoscore_star.core.scaling import larger, not_zero


class Average(NamedTuple):
    """The average, and the weight of all batches in it, for its bias correction: 0 before the first."""

    cov: Any
    averaged: Any


class BatchCovariance(NamedTuple):
    """The number of points, and their covariance S, without gradient."""

    count: Any
    cov: Any


def covariance_of(clouds: Sequence[Any], masks: Sequence[Any], dtype: str) -> BatchCovariance:
    """Compute the covariance of a batch."""
    sums = batch_sums(clouds, masks, dtype)
    return BatchCovariance(sums.count, sums.scatter / larger(sums.count - 1, 1, ops.where) * sums.unit * sums.unit)


def covariance_of_sample(cloud: Points, most: int, dtype: str) -> BatchCovariance:
    """Compute the covariance of about `most` points of a batch."""
    taken = sample_of(cloud.arrays, most, cloud.backend)
    masks = [None if mask is None else taken(mask) for mask in cloud.given_masks]
    return covariance_of([taken(array) for array in cloud.arrays], masks, dtype)


def with_batch(average: Average, batch: BatchCovariance, decay: float) -> Average:
    """Take a batch in, unless it has fewer than two points or one that is not finite; the first one is the average."""
    total = ops.trace(batch.cov)
    usable = ops.logical_and(batch.count > 1, total - total == 0)
    step = ops.cast(usable, batch.cov.dtype) * (1 - decay)
    averaged = average.averaged * (1 - step) + step
    step = step / not_zero(averaged, ops.where)
    cov = ops.where(usable, batch.cov, average.cov)
    return Average(average.cov + step * (cov - average.cov), averaged)
