"""TensorFlow: closed-form gradients of any order, eager, in `tf.function` and under XLA, for any number of rows.

The products have custom gradients of one product each, which are differentiable themselves. The number of rows may be
unknown until a graph runs, and zero.

Inside a strategy's replica function ``across="replicas"`` unites the points of all replicas, and each has the gradient
for its own points. Optimizers sum gradients over the replicas, which gives that of the global score: do not divide the
penalty by their number. The gradients for λ, ζ and Σ_S are complete on each replica.

On a GPU TensorFlow multiplies float32 in TF32, with ten binary digits, unless
``tf.config.experimental.enable_tensor_float_32_execution(False)`` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from isoscore_star.backends.tensorflow._compat import is_placeholder
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.protocol import Backend, Invariants
from isoscore_star.core.scaling import mean_variance, scaled_target, sums_in_unit, with_target

Tensor = Any

_BLOCK = 16
"""Rows of a product, per dimension. With n rows and one far point rounding changes the score by up to 2n/d·ε."""

_PART = 64
"""Rows that are summed at once: the mean errs by at most some ε of the differences from the anchor."""

_custom_gradient: Callable[[Callable[..., Any]], Callable[..., Any]] = tf.custom_gradient


class TensorFlowBackend(Backend):
    """Computes float64 and integers in float64, all other dtypes in float32."""

    name = "tensorflow"
    flushes_subnormals = True

    def owns(self, array: object) -> bool:
        return isinstance(array, (tf.Tensor, tf.Variable, tf.RaggedTensor)) or is_placeholder(array)

    def points(self, array: Tensor) -> Tensor:
        """Flatten to (m, d), of a ragged tensor its values; half precision is converted later."""
        values = array.flat_values if isinstance(array, tf.RaggedTensor) else tf.convert_to_tensor(array)
        flat = values if values.shape.rank == 2 else tf.reshape(values, (-1, values.shape[-1]))
        return flat if flat.dtype.is_floating else tf.cast(flat, _compute_dtype(flat))

    def mask(self, mask: Any, like: Tensor) -> Tensor:
        """Flatten to booleans; a ragged tensor's mask has to be ragged too."""
        if isinstance(like, tf.RaggedTensor) or isinstance(mask, tf.RaggedTensor):
            mask = _ragged_mask(mask, like)
        elif not tf.is_tensor(mask):
            mask = np.asarray(mask) != 0
        return tf.reshape(tf.cast(mask, tf.bool), [-1])

    def constant(self, array: Any, like: Tensor) -> Tensor:
        dtype = _compute_dtype(like)
        if not tf.is_tensor(array):
            with np.errstate(over="ignore"):  # value checks explain values that are not finite
                array = np.asarray(array, dtype.as_numpy_dtype)  # TensorFlow takes no other byte order
        return tf.cast(array, dtype)

    def invariants(
        self,
        clouds: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        shrinkage_cov: Tensor | None,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute by the form with the smaller product; across replicas by the scatter form, whose parts add up."""
        replicas = None if across is None else _replica_context(across)
        return _invariants(_united(clouds, masks, replicas), shrinkage_cov, fourth_order)

    def covariance_sums(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        variances = tf.linalg.diag_part(cov) if cov.shape.rank == 2 else cov
        return sums_in_unit(variances, cov, tf.reduce_sum, self.where, tf.stop_gradient)

    def where(self, condition: Any, a: Any, b: Any) -> Tensor:
        return tf.where(condition, a, b)

    def concrete(self, scalar: Any) -> float | None:
        """Return the value, which waits for the device; None while a graph is built."""
        values = _values(scalar) if tf.is_tensor(scalar) else scalar
        return None if values is None else float(values)

    def to_numpy(self, array: Tensor) -> NDArray[Any]:
        """Copy to the host, bfloat16 as float32; of a ragged tensor its values."""
        values = _values(array.flat_values if isinstance(array, tf.RaggedTensor) else array)
        if values is None:
            raise InvalidTypeError(
                "X",
                f"{type(array).__name__} has no values while a graph is being built, so it cannot be brought to "
                "NumPy. Call this outside of tf.function, or use the scores that are computed in TensorFlow",
            )
        return np.asarray(values, np.float32 if array.dtype == tf.bfloat16 else None)

    def recorder(self, X: Any) -> str | None:
        """Return the module that records calls on placeholders of a functional tf_keras model."""
        placeholder = any(map(is_placeholder, X if isinstance(X, (list, tuple)) else [X]))
        return "isoscore_star.backends.tensorflow.tf_keras_layer" if placeholder else None


def _compute_dtype(points: Tensor) -> Any:
    return tf.float32 if points.dtype.is_floating and points.dtype != tf.float64 else tf.float64


def _values(tensor: Tensor) -> Any:
    try:
        return tensor.numpy()
    except (AttributeError, NotImplementedError):  # of symbolic tensors, and of variables in a graph
        return None


def _ragged_mask(mask: Any, points: Any) -> Tensor:
    """Return the values of a ragged mask, requiring the row lengths of the points."""
    expected = "expected a ragged tensor with the same row lengths as X (or none), as X is ragged"
    if not isinstance(points, tf.RaggedTensor):
        raise InvalidValueError("mask", "it is ragged, but X is not. Give mask.to_tensor() of X's shape")
    if not isinstance(mask, tf.RaggedTensor) or mask.ragged_rank != points.ragged_rank:
        raise InvalidValueError("mask", f"{expected}; got {type(mask).__name__} of shape {tuple(mask.shape)}")
    checks = []
    for splits, wanted in zip(mask.nested_row_splits, points.nested_row_splits, strict=True):
        if _values(splits) is None or _values(wanted) is None:
            checks.append(tf.debugging.assert_equal(tf.cast(splits, wanted.dtype), wanted, message=f"mask: {expected}"))
        elif not np.array_equal(_values(splits), _values(wanted)):
            raise InvalidValueError("mask", f"{expected}; got rows that differ in length from X's")
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(mask.flat_values)


def _replica_context(across: Any) -> Any:
    if not (isinstance(across, str) and across == "replicas"):
        raise InvalidValueError(
            "across", f'TensorFlow has "replicas" (those of a tf.distribute strategy); got {across!r}'
        )
    if not tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
        raise InvalidValueError(
            "across",
            '"replicas" has a meaning inside a replica function alone, where each replica has points of its '
            "own. Call this in what strategy.run runs (or in a layer, loss or train_step), or leave across out",
        )
    return tf.distribute.get_replica_context()


class _Union(NamedTuple):
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


def _united(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], replicas: Any) -> _Union:
    """Count the points and compute their mean, by differences from an anchor: each coordinate's largest value.

    Differences are exact for close points, zero for identical ones. In units of about the largest of them no product
    leaves the range of floats.
    """
    dtype = _compute_dtype(clouds[0])
    count, extremes = _count(clouds, masks, dtype), _extremes(clouds, masks, dtype)
    if replicas is not None:
        count, extremes = _of_all(count, extremes, replicas)
    anchor = tf.where(extremes[0] > -np.inf, extremes[0], tf.zeros([], dtype))
    length = _length(tf.reduce_max(extremes[0] + extremes[1]))
    union = _Union(clouds, masks, count, anchor, length, tf.zeros_like(anchor), replicas)
    total = _summed(sum(_sum_from_anchor(*pair, union) for pair in zip(clouds, masks, strict=True)), replicas)
    return union._replace(mean=_shared(total / _at_least(count, 1), replicas))


def _split(union: _Union, few: Tensor) -> tuple[_Union, _Union]:
    """Return the union and an empty one if there are few points, else an empty one and the union."""
    rows = [_rows([cloud]) for cloud in union.clouds]
    cuts = [tf.where(few, n, 0) for n in rows]
    clouds = [tf.split(cloud, [cut, n - cut]) for cloud, cut, n in zip(union.clouds, cuts, rows, strict=True)]
    near = [None if mask is None else mask[:cut] for mask, cut in zip(union.masks, cuts, strict=True)]
    far = [None if mask is None else mask[cut:] for mask, cut in zip(union.masks, cuts, strict=True)]
    return (
        union._replace(clouds=[cloud for cloud, _ in clouds], masks=near),
        union._replace(clouds=[cloud for _, cloud in clouds], masks=far),
    )


def _rows(clouds: Sequence[Tensor]) -> Any:
    """Return the number of rows: an int if the shapes are static, else a tensor."""
    return sum(tf.shape(cloud)[0] if cloud.shape[0] is None else cloud.shape[0] for cloud in clouds)


def _count(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], dtype: Any) -> Any:
    """Return m: an int without masks and with static shapes, else a tensor."""
    pairs = zip(clouds, masks, strict=True)
    count = sum(
        _rows([cloud]) if mask is None else tf.math.count_nonzero(mask, dtype=tf.int32) for cloud, mask in pairs
    )
    return count if isinstance(count, int) else tf.cast(count, dtype)


def _at_least(count: Any, least: int) -> Any:
    return max(count, least) if isinstance(count, int) else tf.maximum(count, tf.cast(least, count.dtype))


def _extremes(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], dtype: Any) -> Tensor:
    """Return each coordinate's largest value and that of its negative, (2, d), without gradient; -inf if empty."""
    extremes = []
    for cloud, mask in zip(clouds, masks, strict=True):
        cloud = tf.stop_gradient(cloud)
        highest = tf.reduce_max(_in_parts(_kept(cloud, mask, -np.inf), tf.reduce_max), 0)
        lowest = tf.reduce_min(_in_parts(_kept(cloud, mask, np.inf), tf.reduce_min), 0)
        extremes.append(tf.cast(tf.stack([highest, -lowest]), dtype))
    return extremes[0] if len(extremes) == 1 else tf.reduce_max(tf.stack(extremes), 0)


def _length(spread: Tensor) -> Tensor:
    """Return the power of two below an eighth, by which division is exact; its reciprocal is in range too."""
    integer, exponent = (tf.int32, 0x7F800000) if spread.dtype == tf.float32 else (tf.int64, 0x7FF0000000000000)
    least = tf.maximum(spread / 8, np.finfo(spread.dtype.as_numpy_dtype).tiny)
    power = tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(least, integer), tf.constant(exponent, integer)), spread.dtype)
    return tf.where((spread > 0) & (spread < np.inf), power, tf.ones_like(power))


def _kept(rows: Tensor, mask: Tensor | None, instead: float = 0.0) -> Tensor:
    return rows if mask is None else tf.where(mask[:, None], rows, tf.cast(instead, rows.dtype))


def _shifted(cloud: Tensor, mask: Tensor | None, union: _Union) -> Tensor:
    return _kept((tf.cast(cloud, union.mean.dtype) - union.anchor) * (1 / union.length), mask)


def _centred(cloud: Tensor, mask: Tensor | None, union: _Union) -> Tensor:
    return _kept(_shifted(cloud, None, union) - union.mean, mask)


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


def _sum_from_anchor(cloud: Tensor, mask: Tensor | None, union: _Union) -> Tensor:
    """Sum the rows before centring, without keeping them for the gradient."""

    @_custom_gradient
    def total(rows: Tensor) -> Any:
        def gradient(g: Tensor) -> Tensor:
            return tf.cast(_kept(tf.broadcast_to(g / union.length, tf.shape(rows)), mask), rows.dtype)

        return sum_of_rows(_shifted(rows, mask, union)), gradient

    return total(cloud)


# A value that is the same on all replicas is one variable: the gradient of a sum over replicas is the identity, and
# that of its use on each replica is a sum. So `_summed` and `_shared` are each other's gradient.
def _summed(value: Tensor, replicas: Any) -> Tensor:
    @_custom_gradient
    def summed(value: Tensor) -> Any:
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, value), lambda g: _shared(g, replicas)

    return value if replicas is None else summed(value)


def _shared(value: Tensor, replicas: Any) -> Tensor:
    @_custom_gradient
    def shared(value: Tensor) -> Any:
        return tf.identity(value), lambda g: _summed(g, replicas)

    return value if replicas is None else shared(value)


def _of_all(count: Any, extremes: Tensor, replicas: Any) -> tuple[Tensor, Tensor]:
    """Return the number of points on all replicas, and their largest values."""
    own = tf.one_hot(replicas.replica_id_in_sync_group, replicas.num_replicas_in_sync, dtype=extremes.dtype)
    values = [tf.cast(count, extremes.dtype), tf.where(own[:, None, None] > 0, extremes, tf.zeros_like(extremes))]
    count, extremes = replicas.all_reduce(tf.distribute.ReduceOp.SUM, values)
    return count, tf.stop_gradient(tf.reduce_max(extremes, 0))


def _invariants(union: _Union, target: Tensor | None, fourth_order: bool) -> Invariants:
    """Compute by the form with the smaller product, Gram (m × m) or scatter (d × d).

    If that is unknown while a graph is built, both are computed, one with all points, the other with no points and no
    dimensions: unlike branches of a condition they can be differentiated, compiled and vectorized.
    """
    dim = union.mean.shape[0]
    few = union.replicas is None and _rows(union.clouds) < dim
    if isinstance(few, bool):
        near, far, width = (union, None, dim) if few else (None, union, dim)
    else:
        near, far = _split(union, few)
        width = tf.where(few, 0, dim)
    freedom = _at_least(union.count - 1, 1)
    total = 0
    if near is not None:
        points = _centred_points(near)
        total += _squares(points)
    if far is not None:
        scatter = _scatter(far, width)
        total += tf.linalg.trace(scatter)
    square, divisor = mean_variance(tf.stop_gradient(total / freedom), dim, tf.where)
    scaled = None
    if target is not None:
        largest = tf.stop_gradient(tf.reduce_max(tf.linalg.diag_part(target)))
        scaled = scaled_target(target, largest, tf.linalg.trace, _squares, tf.where)
        target = scaled.matrix
    forms = []
    if near is not None:
        forms.append(_gram_form(points / tf.sqrt(divisor), freedom, target, fourth_order))
    if far is not None:
        forms.append(_scatter_form(far, scatter, width, freedom, divisor, target, fourth_order))
    t, f, *rest = (sum(parts) for parts in zip(*forms, strict=True))
    q = rest.pop(0) if fourth_order else None
    precision = 2.0**-23 if divisor.dtype == tf.float32 else 2.0**-52
    invariants = Invariants(union.count, union.length * tf.sqrt(square), t, f, q, precision=precision)
    return invariants if scaled is None else with_target(invariants, scaled, rest[0])


def _squares(array: Tensor) -> Tensor:
    return tf.reduce_sum(array * array)


@_custom_gradient  # TensorFlow's own is not differentiable under XLA for a dynamic shape
def _trace(matrix: Tensor) -> Any:
    return tf.linalg.trace(matrix), lambda g: g * tf.eye(tf.shape(matrix)[0], dtype=matrix.dtype)


def _centred_points(union: _Union) -> Tensor:
    """Return all centred points. Centring is a symmetric projection, so its gradient is centred too."""
    keep = None
    if any(mask is not None for mask in union.masks):
        pairs = zip(union.clouds, union.masks, strict=True)
        keep = tf.concat([tf.ones(tf.shape(c)[:1], tf.bool) if mask is None else mask for c, mask in pairs], 0)

    @_custom_gradient
    def centred_points(*clouds: Tensor) -> Any:
        def gradient(g: Tensor) -> list[Tensor]:
            g = _kept(g, keep)
            g = _kept(g - tf.reduce_sum(g, 0) / _at_least(union.count, 1), keep)
            parts = tf.split(g, [_rows([cloud]) for cloud in clouds]) if len(clouds) > 1 else [g]
            return [tf.cast(part / union.length, cloud.dtype) for part, cloud in zip(parts, clouds, strict=True)]

        pairs = zip(clouds, union.masks, strict=True)
        return tf.concat([_centred(*pair, union) for pair in pairs], 0), gradient

    return centred_points(*union.clouds)


def _gram_form(unit: Tensor, freedom: Any, target: Tensor | None, fourth_order: bool) -> list[Tensor]:
    """Compute T, F and optionally Q and C from the inner products of points that are centred and scaled."""

    @_custom_gradient
    def inner_products(points: Tensor) -> Any:
        def gradient(g: Tensor) -> Tensor:
            return tf.linalg.matmul(g + tf.transpose(g), points)

        return tf.linalg.matmul(points, points, transpose_b=True), gradient

    squared_norms = tf.reduce_sum(unit * unit, 1)
    invariants = [tf.reduce_sum(squared_norms) / freedom, _squares(inner_products(unit) / freedom)]
    if fourth_order:
        invariants.append(_squares(squared_norms) / freedom)
    if target is not None:
        invariants.append(_quadratic_form(unit, target) / freedom)
    return invariants


def _quadratic_form(points: Tensor, target: Tensor) -> Tensor:
    """Compute Σ xᵀΣ_S x by one product for value and gradient, and one more for the gradient in Σ_S."""
    mapped = tf.linalg.matmul(points, target)

    @_custom_gradient
    def of_points(points: Tensor) -> Any:
        return tf.reduce_sum(mapped * points), lambda g: 2 * g * mapped

    @_custom_gradient
    def of_target(target: Tensor) -> Any:
        return tf.zeros([], target.dtype), lambda g: g * tf.linalg.matmul(points, points, transpose_a=True)

    return of_points(points) + of_target(target)


def _of_width(width: Any, rows: Tensor) -> Tensor:
    """Reshape rows to a width, which differs from theirs only if there are none."""
    return tf.reshape(rows, [tf.shape(rows)[0], width])


def _scatter(union: _Union, width: Any) -> Tensor:
    """Compute the scatter of the points, in units of the length, without gradient."""
    parts = []
    for pair in zip(union.clouds, union.masks, strict=True):
        centred = _of_width(width, tf.stop_gradient(_centred(*pair, union)))
        parts.append(own_product(centred, union.mean.shape[0]))
    return _summed(sum(parts), union.replicas)


def _scatter_form(
    union: _Union, scatter: Tensor, width: Any, freedom: Any, divisor: Tensor, target: Tensor | None, fourth_order: bool
) -> list[Tensor]:
    """Compute T, F and optionally Q and C from S/s²."""

    @_custom_gradient
    def covariance(*clouds: Tensor) -> Any:
        def gradient(g: Tensor) -> list[Tensor]:
            g = _shared((g + tf.transpose(g)) / (freedom * divisor), union.replicas) / union.length
            parts = []
            for cloud, mask in zip(clouds, union.masks, strict=True):
                centred = _of_width(width, _centred(cloud, mask, union))
                parts.append(tf.cast(tf.reshape(tf.linalg.matmul(centred, g), tf.shape(cloud)), cloud.dtype))
            return parts

        # Centred points sum to zero, so there is no gradient for the mean here, only in the gradient's derivative.
        return scatter / (freedom * divisor), gradient

    cov = covariance(*union.clouds)
    invariants = [_trace(cov), _squares(cov)]
    if fourth_order:
        fourth = sum(_fourth_powers(*pair, union, divisor) for pair in zip(union.clouds, union.masks, strict=True))
        invariants.append(_summed(fourth, union.replicas) / freedom)
    if target is not None:
        head, _ = tf.split(target, [width, target.shape[0] - width])
        invariants.append(tf.reduce_sum(_of_width(target.shape[0], cov) * head))
    return invariants


def _fourth_powers(cloud: Tensor, mask: Tensor | None, union: _Union, divisor: Tensor) -> Tensor:
    """Compute Σ‖x−μ‖⁴/s⁴, without keeping the centred points for the gradient."""

    @_custom_gradient
    def fourth(rows: Tensor, mean: Tensor) -> Any:
        def norms(centred: Tensor) -> Tensor:
            return tf.reduce_sum(centred * centred, 1) / divisor

        def gradient(g: Tensor) -> Any:
            centred = _centred(rows, mask, union._replace(mean=mean))
            on_rows = centred / divisor * (4 * g * norms(centred))[:, None]
            return tf.cast(on_rows / union.length, rows.dtype), -sum_of_rows(on_rows)

        squared_norms = norms(_centred(rows, mask, union._replace(mean=mean)))
        return sum_of_rows(squared_norms * squared_norms), gradient

    return fourth(cloud, union.mean)


BACKEND = TensorFlowBackend()
