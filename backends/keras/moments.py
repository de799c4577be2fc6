"""Moments of a batch in `keras.ops`, for the state of layers and metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from isoscore_star.core.merging import Operations, Sums
from isoscore_star.core.scaling import larger

_BLOCK = 16
"""Rows of a product, per dimension. With n rows and one far point rounding changes the score by up to 2n/d·ε."""

_PART = 64
"""Rows that are summed at once: the mean errs by at most some ε of the differences from the anchor."""


@dataclass(frozen=True)
class Compensated:
    """A sum and its rounding error, which would grow over thousands of batches."""

    total: Any
    rest: Any

    def __add__(self, more: Any) -> Compensated:
        """Add (Knuth's two-sum)."""
        more = more + self.rest
        added = self.total + more
        part = added - self.total
        return Compensated(added, (self.total - (added - part)) + (more - part))

    def __sub__(self, other: Any) -> Any:
        """Return the difference from an exact number."""
        return (self.total - other) + self.rest

    def __mul__(self, factor: Any) -> Compensated:
        """Multiply both."""
        return Compensated(self.total * factor, self.rest * factor)


def batch_sums(clouds: Sequence[Any], masks: Sequence[Any], dtype: str, *, fourth_order: bool = False) -> Sums:
    """Compute the sums over the union of clouds, without gradient, in units of the largest difference from a point."""
    dim = clouds[0].shape[-1]
    points = _joined([ops.reshape(ops.cast(ops.stop_gradient(cloud), dtype), (-1, dim)) for cloud in clouds])
    keep = _joined([_kept(mask, cloud) for mask, cloud in zip(masks, clouds, strict=True)])[:, None]
    if not points.shape[0]:  # none, or a number that is not known yet: a masked one, since there has to be a first
        points = ops.concatenate([points, ops.zeros((1, dim), dtype)])
        keep = ops.concatenate([keep, ops.zeros((1, 1), "bool")])
    first = ops.argmax(ops.cast(keep[:, 0], "int32"))
    anchor = ops.where(keep[first], points[first], 0.0)
    shifted = ops.where(keep, points - anchor, 0.0)
    unit = ops.max(ops.absolute(shifted))
    shifted = shifted / ops.where(unit > 0, unit, 1.0)
    count = ops.sum(ops.cast(keep, dtype))
    offset = _sum_of_rows(shifted) / larger(count, 1, ops.where)
    centred = ops.where(keep, shifted - offset, 0.0)
    with _full_precision():
        sums = Sums(count, unit, anchor, offset, _own_product(centred))
    if fourth_order:
        squared_norms = ops.sum(centred * centred, axis=1)
        sums.third = ops.sum(squared_norms[:, None] * centred, axis=0)
        sums.fourth = ops.sum(squared_norms * squared_norms)
    return sums


def plain(sums: Sums) -> Sums:
    """Return sums without their rounding errors, so that they can be merged into others."""
    return replace(sums, offset=_plain(sums.offset), scatter=_plain(sums.scatter))


def _plain(array: Any) -> Any:
    return array.total if isinstance(array, Compensated) else array


OPERATIONS = Operations(
    # `ops.maximum` and `ops.matmul` turn float64 to float32 on torch (keras-team/keras#23223, #23704; open as of 3.15).
    where=ops.where,
    product=lambda array, vector: ops.sum(_plain(array) * vector, axis=-1),
    trace=lambda matrix: ops.trace(_plain(matrix)),
    unit_of=lambda vector: ops.max(ops.absolute(vector)),
)


def _kept(mask: Any, cloud: Any) -> Any:
    shape = ops.shape(cloud)[:-1]
    keep = ops.ones(shape, dtype="bool") if mask is None else ops.not_equal(mask, 0)
    return ops.reshape(keep, (-1,))


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts)


def _own_product(rows: Any) -> Any:
    """Return rowsᵀ·rows, by blocks."""
    if keras.backend.backend() == "tensorflow":  # where the number of rows may be unknown
        from isoscore_star.backends.tensorflow.union import own_product

        return own_product(rows, rows.shape[1])
    blocks = _in_blocks(rows, _BLOCK * rows.shape[1])
    return _sum(ops.swapaxes(blocks, 1, 2) @ blocks)


def _sum_of_rows(rows: Any) -> Any:
    if keras.backend.backend() == "tensorflow":
        from isoscore_star.backends.tensorflow.union import sum_of_rows

        return sum_of_rows(rows)
    return _sum(ops.sum(_in_blocks(rows, _PART), axis=1))


def _in_blocks(array: Any, most: int) -> Any:
    """Cut rows into even blocks of at most `most`, padded with zeros."""
    rows = array.shape[0]
    if rows <= most:
        return array[None]
    count = -(-rows // most)
    size = -(-rows // count)
    if count * size > rows:
        array = ops.pad(array, [(0, count * size - rows)] + [(0, 0)] * (len(array.shape) - 1))
    return ops.reshape(array, (count, size, *array.shape[1:]))


def _sum(parts: Any) -> Any:
    """Sum over the first axis in stages of sixteen, which limits rounding."""
    while parts.shape[0] > 1:
        parts = ops.sum(_in_blocks(parts, 16), axis=1)
    return parts[0]


def _full_precision() -> Any:
    # On accelerators JAX multiplies float32 in lower precision by default.
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")
