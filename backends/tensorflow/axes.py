"""Axes of tensors before they are flattened: of sizes that are known when a graph runs, and of ragged tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from isoscore_star.core.places import token_places, tokens_taken

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


def some_along(array: Any, axis: int, most: int, total: Any) -> Tensor:
    """Return some tokens of every sequence, or some rows, with the other sizes that are known; see `places`.

    Of a ragged tensor some of all tokens, as if they were one sequence.
    """
    array = _tensor(array)
    if isinstance(array, tf.RaggedTensor):
        return _some_of_ragged(array, most, total)
    shape = tf.shape(array, tf.int64)
    size = shape[axis]
    taken = tf.minimum(tokens_taken(size, most, tf.maximum(tf.cast(total, tf.int64), 1)), size)
    sequences = tf.range(shape[0] if axis else 1, dtype=tf.int64)[:, None]
    places = token_places(sequences, tf.range(taken), size, tf.maximum(taken, 1))
    part = tf.gather(array, places, axis=1, batch_dims=1) if axis else tf.gather(array, places[0])
    part.set_shape([None if i == axis else known for i, known in enumerate(array.shape)])
    return part


def _some_of_ragged(array: Tensor, most: int, total: Any) -> Tensor:
    if array.ragged_rank > 1:
        return array
    rows = tf.size(array.value_rowids(), tf.int64)
    taken = tf.minimum(tokens_taken(rows, most, tf.maximum(tf.cast(total, tf.int64), 1)), rows)
    places = token_places(tf.zeros([], tf.int64), tf.range(taken), rows, tf.maximum(taken, 1))
    rowids = tf.gather(array.value_rowids(), places)
    return tf.RaggedTensor.from_value_rowids(tf.gather(array.values, places), rowids, nrows=array.nrows())


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
