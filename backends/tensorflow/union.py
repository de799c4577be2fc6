"""Points of several clouds: their number and mean, centred rows, and sums, over all replicas if there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

Tensor = Any

_BLOCK = 16
"""Rows of a product, per dimension. With n rows and one far point rounding changes the score by up to 2n/d·ε."""

_PART = 64
"""Rows that are summed at once: the mean errs by at most some ε of the differences from the anchor."""

custom_gradient: Callable[[Callable[..., Any]], Callable[..., Any]] = tf.custom_gradient


def compute_dtype(points: Tensor) -> Any:
    """Return float64 for float64 and integers, else float32."""
    return tf.float32 if points.dtype.is_floating and points.dtype != tf.float64 else tf.float64


class Union(NamedTuple):
    """Clouds with their masks, and count, anchor, length and mean of their points, over all replicas if there are any.

    Centred points are (x − anchor)/length − mean; of these only the mean has gradients.
    """

    clouds: Sequence[Tensor]
    masks: Sequence[Tensor | None]
    count: Any
    anchor: Tensor
    length: Tensor
    mean: Tensor
    replicas: Any


def united(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], replicas: Any) -> Union:
    """Count the points and compute their mean, by differences from an anchor: each coordinate's largest value.

    Differences are exact for close points, zero for identical ones. In units of about the largest of them no product
    leaves the range of floats.
    """
    dtype = compute_dtype(clouds[0])
    count, extremes = _count(clouds, masks, dtype), _extremes(clouds, masks, dtype)
    if replicas is not None:
        count, extremes = _of_all(count, extremes, replicas)
    anchor = tf.where(extremes[0] > -np.inf, extremes[0], tf.zeros([], dtype))
    length = _length(tf.reduce_max(extremes[0] + extremes[1]))
    union = Union(clouds, masks, count, anchor, length, tf.zeros_like(anchor), replicas)
    total = summed(sum(_sum_from_anchor(*pair, union) for pair in zip(clouds, masks, strict=True)), replicas)
    return union._replace(mean=shared(total / at_least(count, 1), replicas))


def split(union: Union, few: Tensor) -> tuple[Union, Union]:
    """Return the union and an empty one if there are few points, else an empty one and the union."""
    rows = [count_rows([cloud]) for cloud in union.clouds]
    cuts = [tf.where(few, n, 0) for n in rows]
    clouds = [tf.split(cloud, [cut, n - cut]) for cloud, cut, n in zip(union.clouds, cuts, rows, strict=True)]
    near = [None if mask is None else mask[:cut] for mask, cut in zip(union.masks, cuts, strict=True)]
    far = [None if mask is None else mask[cut:] for mask, cut in zip(union.masks, cuts, strict=True)]
    return (
        union._replace(clouds=[cloud for cloud, _ in clouds], masks=near),
        union._replace(clouds=[cloud for _, cloud in clouds], masks=far),
    )


def count_rows(clouds: Sequence[Tensor]) -> Any:
    """Return the number of rows: an int if the shapes are static, else a tensor."""
    return sum(tf.shape(cloud)[0] if cloud.shape[0] is None else cloud.shape[0] for cloud in clouds)


def _count(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], dtype: Any) -> Any:
    """Return m: an int without masks and with static shapes, else a tensor."""
    pairs = zip(clouds, masks, strict=True)
    count = sum(
        count_rows([cloud]) if mask is None else tf.math.count_nonzero(mask, dtype=tf.int32) for cloud, mask in pairs
    )
    return count if isinstance(count, int) else tf.cast(count, dtype)


def at_least(count: Any, least: int) -> Any:
    """Return the larger of a count and a number."""
    return max(count, least) if isinstance(count, int) else tf.maximum(count, tf.cast(least, count.dtype))


def _extremes(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], dtype: Any) -> Tensor:
    """Return each coordinate's largest value and that of its negative, (2, d), without gradient; -inf if empty."""
    extremes = []
    for cloud, mask in zip(clouds, masks, strict=True):
        cloud = tf.stop_gradient(cloud)
        highest = tf.reduce_max(_in_parts(kept(cloud, mask, -np.inf), tf.reduce_max), 0)
        lowest = tf.reduce_min(_in_parts(kept(cloud, mask, np.inf), tf.reduce_min), 0)
        extremes.append(tf.cast(tf.stack([highest, -lowest]), dtype))
    return extremes[0] if len(extremes) == 1 else tf.reduce_max(tf.stack(extremes), 0)


def _length(spread: Tensor) -> Tensor:
    """Return the power of two below an eighth, by which division is exact; its reciprocal is in range too."""
    integer, exponent = (tf.int32, 0x7F800000) if spread.dtype == tf.float32 else (tf.int64, 0x7FF0000000000000)
    least = tf.maximum(spread / 8, np.finfo(spread.dtype.as_numpy_dtype).tiny)
    power = tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(least, integer), tf.constant(exponent, integer)), spread.dtype)
    return tf.where((spread > 0) & (spread < np.inf), power, tf.ones_like(power))


def kept(rows: Tensor, mask: Tensor | None, instead: float = 0.0) -> Tensor:
    """Replace rows that are masked."""
    return rows if mask is None else tf.where(mask[:, None], rows, tf.cast(instead, rows.dtype))


def _shifted(cloud: Tensor, mask: Tensor | None, union: Union) -> Tensor:
    return kept((tf.cast(cloud, union.mean.dtype) - union.anchor) * (1 / union.length), mask)


def centred_rows(cloud: Tensor, mask: Tensor | None, union: Union) -> Tensor:
    """Return centred points in units of the length; masked ones are zero."""
    return kept(_shifted(cloud, None, union) - union.mean, mask)


def _blocks(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Cut rows into blocks, (n, most, ...), and a rest."""
    count = tf.shape(rows)[0] if rows.shape[0] is None else rows.shape[0]
    whole = count // most
    blocks = tf.reshape(rows[: whole * most], tf.concat([[whole, most], tf.shape(rows)[1:]], 0))
    return blocks, rows[whole * most :]


def _in_parts(rows: Tensor, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Reduce parts of the rows, which is faster than all at once, and more exact for sums."""
    if rows.shape[0] is not None and rows.shape[0] <= _PART:
        return rows
    blocks, rest = _blocks(rows, _PART)
    return tf.concat([reduce(blocks, 1), rest], 0)


def sum_of_rows(rows: Tensor) -> Tensor:
    """Sum over the first axis, the sums of parts in float64."""
    return _sum(_in_parts(rows, tf.reduce_sum))


def _sum(parts: Tensor) -> Tensor:
    return tf.cast(tf.reduce_sum(tf.cast(parts, tf.float64), 0), parts.dtype)


def own_product(rows: Tensor, dim: int) -> Tensor:
    """Return rowsᵀ·rows, the sum over blocks in float64."""
    most = _BLOCK * dim
    if rows.shape[0] is not None and rows.shape[0] <= most:
        return tf.linalg.matmul(rows, rows, transpose_a=True)
    blocks, rest = _blocks(rows, most)
    parts = [tf.linalg.matmul(blocks, blocks, transpose_a=True)]
    if rest.shape[0] != 0:
        parts.append(tf.linalg.matmul(rest, rest, transpose_a=True)[None])
    return _sum(tf.concat(parts, 0))


def _sum_from_anchor(cloud: Tensor, mask: Tensor | None, union: Union) -> Tensor:
    """Sum the rows before centring, without keeping them for the gradient."""

    @custom_gradient
    def total(rows: Tensor) -> Any:
        def gradient(g: Tensor) -> Tensor:
            return tf.cast(kept(tf.broadcast_to(g / union.length, tf.shape(rows)), mask), rows.dtype)

        return sum_of_rows(_shifted(rows, mask, union)), gradient

    return total(cloud)


# A value that is the same on all replicas is one variable: the gradient of a sum over replicas is the identity, and
# that of its use on each replica is a sum. So `summed` and `shared` are each other's gradient.
def summed(value: Tensor, replicas: Any) -> Tensor:
    """Sum over the replicas."""

    @custom_gradient
    def summed(value: Tensor) -> Any:
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, value), lambda g: shared(g, replicas)

    return value if replicas is None else summed(value)


def shared(value: Tensor, replicas: Any) -> Tensor:
    """Return a value that is the same on all replicas, for use on each."""

    @custom_gradient
    def shared(value: Tensor) -> Any:
        return tf.identity(value), lambda g: summed(g, replicas)

    return value if replicas is None else shared(value)


def _of_all(count: Any, extremes: Tensor, replicas: Any) -> tuple[Tensor, Tensor]:
    """Return the number of points on all replicas, and their largest values."""
    own = tf.one_hot(replicas.replica_id_in_sync_group, replicas.num_replicas_in_sync, dtype=extremes.dtype)
    values = [tf.cast(count, extremes.dtype), tf.where(own[:, None, None] > 0, extremes, tf.zeros_like(extremes))]
    count, extremes = replicas.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return count, tf.stop_gradient(tf.reduce_max(extremes, 0))
