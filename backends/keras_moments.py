"""Moments of a batch in `keras.ops`, for what Keras keeps as state: the running Σ_S of a layer, and the metric."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops


class BatchMoments(NamedTuple):
    """Count, mean and scatter of a batch, and its points themselves: centred, with zeros where a mask leaves out."""

    count: Any
    mean: Any
    scatter: Any
    centred: Any


def batch_moments(clouds: Sequence[Any], masks: Sequence[Any], dtype: str) -> BatchMoments:
    """Compute the moments of the union of clouds, without gradient.

    Differences from a point of the batch are exact for close points, so that a mean far from zero costs no digits.
    """
    dim = clouds[0].shape[-1]
    points = _joined([ops.reshape(ops.cast(ops.stop_gradient(cloud), dtype), (-1, dim)) for cloud in clouds])
    keep = _joined([_kept(mask, cloud) for mask, cloud in zip(masks, clouds, strict=True)])[:, None]
    first = ops.argmax(ops.cast(keep[:, 0], "int32"))
    anchor = ops.where(keep[first], points[first], 0.0)
    count = ops.sum(ops.cast(keep, dtype))
    shifted = ops.where(keep, points - anchor, 0.0)
    offset = ops.sum(shifted, axis=0) / at_least(count, 1)
    centred = ops.where(keep, shifted - offset, 0.0)
    with _full_precision():
        scatter = ops.transpose(centred) @ centred
    return BatchMoments(count, anchor + offset, scatter, centred)


def at_least(x: Any, least: Any) -> Any:
    """Bound a scalar from below; `ops.maximum` and `ops.matmul` would make float32 of float64 on torch."""
    return ops.where(x > least, x, least)


def _kept(mask: Any, cloud: Any) -> Any:
    shape = ops.shape(cloud)[:-1]
    keep = ops.ones(shape, dtype="bool") if mask is None else ops.not_equal(mask, 0)
    return ops.reshape(keep, (-1,))


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts)


def _full_precision() -> Any:
    # JAX multiplies float32 in less than float32 on accelerators, unless asked not to.
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")
