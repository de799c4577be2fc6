"""Moments of a batch in `keras.ops`, for what Keras keeps as state: the running Σ_S of a layer, and the metric."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

_BLOCK = 16
"""Rows for each dimension that a product takes at once. Of n, one far point lets rounding lose 2n/d·ε of the score."""

_PART = 64
"""Rows that are summed at once, by which the mean errs by some ε of the differences from the anchor at the most."""


class Frame(NamedTuple):
    """Points are computed with as differences from an anchor, in units of a length: small ones of moderate size."""

    anchor: Any
    unit: Any


class BatchMoments(NamedTuple):
    """Count, mean and scatter of a batch in a frame, and its points there: centred, with zeros for masked ones."""

    count: Any
    frame: Frame
    mean: Any
    scatter: Any
    centred: Any


def batch_moments(
    clouds: Sequence[Any], masks: Sequence[Any], dtype: str, count: Any = None, frame: Frame | None = None
) -> BatchMoments:
    """Compute the moments of the union of clouds, without gradient.

    Differences from a point are exact for close points, so that a mean far from zero costs no digits; and in units of
    the largest of them no square leaves the range of floats. With the frame of `count` earlier points, the anchor is
    that of those (if any), and the unit not smaller.
    """
    dim = clouds[0].shape[-1]
    points = _joined([ops.reshape(ops.cast(ops.stop_gradient(cloud), dtype), (-1, dim)) for cloud in clouds])
    keep = _joined([_kept(mask, cloud) for mask, cloud in zip(masks, clouds, strict=True)])[:, None]
    first = ops.argmax(ops.cast(keep[:, 0], "int32"))
    anchor, unit = ops.where(keep[first], points[first], 0.0), 0.0
    if frame is not None:
        anchor, unit = ops.where(count > 0, frame.anchor, anchor), frame.unit
    shifted = ops.where(keep, points - anchor, 0.0)
    unit = at_least(ops.max(ops.absolute(shifted)), unit)
    shifted = shifted / safe(unit)
    own_count = ops.sum(ops.cast(keep, dtype))
    mean = _sum_of_rows(shifted) / at_least(own_count, 1)
    centred = ops.where(keep, shifted - mean, 0.0)
    with _full_precision():
        scatter = _own_product(centred)
    return BatchMoments(own_count, Frame(anchor, unit), mean, scatter, centred)


def at_least(x: Any, least: Any) -> Any:
    """Bound a scalar from below; `ops.maximum` and `ops.matmul` would make float32 of float64 on torch."""
    return ops.where(x > least, x, least)


def safe(unit: Any) -> Any:
    """Return what to divide by: 1 where the unit is zero, or no number."""
    return ops.where(unit > 0, unit, 1.0)


def _kept(mask: Any, cloud: Any) -> Any:
    shape = ops.shape(cloud)[:-1]
    keep = ops.ones(shape, dtype="bool") if mask is None else ops.not_equal(mask, 0)
    return ops.reshape(keep, (-1,))


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts)


def _own_product(rows: Any) -> Any:
    """Return rowsᵀ·rows, by blocks."""
    if keras.backend.backend() == "tensorflow":  # which may not know the number of rows yet
        from isoscore_star.backends.tensorflow.backend import own_product

        return own_product(rows, rows.shape[1])
    blocks = _in_blocks(rows, _BLOCK * rows.shape[1])
    return _sum(ops.swapaxes(blocks, 1, 2) @ blocks)


def _sum_of_rows(rows: Any) -> Any:
    if keras.backend.backend() == "tensorflow":
        from isoscore_star.backends.tensorflow.backend import sum_of_rows

        return sum_of_rows(rows)
    return _sum(ops.sum(_in_blocks(rows, _PART), axis=1))


def _in_blocks(array: Any, most: int) -> Any:
    """Cut rows into even blocks of at most so many, with zeros at the end where there is need."""
    rows = array.shape[0]
    if rows <= most:
        return array[None]
    count = -(-rows // most)
    size = -(-rows // count)
    if count * size > rows:
        array = ops.pad(array, [(0, count * size - rows)] + [(0, 0)] * (len(array.shape) - 1))
    return ops.reshape(array, (count, size, *array.shape[1:]))


def _sum(parts: Any) -> Any:
    """Sum over the first axis in stages of sixteen, so that rounding hardly grows with the number of parts."""
    while parts.shape[0] > 1:
        parts = ops.sum(_in_blocks(parts, 16), axis=1)
    return parts[0]


def _full_precision() -> Any:
    # JAX multiplies float32 in less than float32 on accelerators, unless asked not to.
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")
