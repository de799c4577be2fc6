"""Axes of tensors before they are flattened: of sizes that are known when a graph runs, and of ragged tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def size(array: Tensor, axis: int) -> Any:
    """Return the length of an axis, of a ragged one the largest: an int if it is known."""
    known = array.shape[axis]
    if known is not None:
        return known
    return array.bounding_shape(axis) if isinstance(array, tf.RaggedTensor) else tf.shape(array)[axis]


def every_second(array: Any, axis: int, start: Any) -> Tensor:
    """Return every second of the slices along an axis, from a start that may be a tensor, also of NumPy's masks."""
    array = array if isinstance(start, int) else _tensor(array)
    return array[(slice(None),) * axis + (slice(start, None, 2),)]


def every_nth(array: Any, axis: int, step: Any) -> Tensor:
    """Return every n-th of the slices along an axis, with the other sizes that are known, which TensorFlow forgets."""
    array = _tensor(array)
    part = array[(slice(None),) * axis + (slice(None, None, step),)]
    if not isinstance(part, tf.RaggedTensor):
        part.set_shape([None if i == axis else size for i, size in enumerate(array.shape)])
    return part


def numbers_along(array: Tensor, axis: int) -> Tensor:
    """Return each point's index along an axis, flat; of a ragged tensor for its values."""
    levels = [array]
    while isinstance(levels[-1], tf.RaggedTensor):
        levels.append(levels[-1].values)
    depth = len(levels) - 1
    shape = tf.shape(levels[-1], tf.int64)[:-1]
    if axis > depth or depth == 0:
        return tf.reshape(_broadcast(tf.range(shape[axis - depth]), axis - depth, shape), [-1])
    if axis == 0:
        numbers = tf.range(levels[0].nrows(tf.int64))
    else:
        ragged = levels[axis - 1]
        starts = tf.gather(ragged.row_starts(), ragged.value_rowids())
        numbers = tf.range(tf.size(starts, tf.int64)) - tf.cast(starts, tf.int64)
    for ragged in levels[axis:-1]:
        numbers = tf.gather(numbers, ragged.value_rowids())
    return tf.reshape(_broadcast(numbers, 0, shape), [-1])


def _broadcast(numbers: Tensor, axis: int, shape: Tensor) -> Tensor:
    around = [tf.ones_like(shape[:axis]), [-1], tf.ones_like(shape[axis + 1 :])]
    return tf.broadcast_to(tf.reshape(numbers, tf.concat(around, 0)), shape)


def _tensor(array: Any) -> Tensor:
    return array if isinstance(array, tf.RaggedTensor) else tf.convert_to_tensor(array)
