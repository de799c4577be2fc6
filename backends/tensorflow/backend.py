"""TensorFlow: closed-form gradients of any order, eager, in `tf.function` and under XLA, for any number of rows.

The products have custom gradients of one product each, which are differentiable themselves. The number of rows may be
unknown until a graph runs, and zero.

Inside a strategy's replica function ``across="replicas"`` unites the points of all replicas, and each has the gradient
for its own points. Optimizers sum gradients over the replicas, which gives that of the global score: do not divide the
penalty by their number. The gradients for λ, ζ and Σ_S are complete on each replica. Replicas may have different
numbers of points, and of groups.

On a GPU TensorFlow multiplies float32 in TF32, with ten binary digits, unless
``tf.config.experimental.enable_tensor_float_32_execution(False)`` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from isoscore_star.backends.tensorflow import axes
from isoscore_star.backends.tensorflow._compat import is_placeholder
from isoscore_star.backends.tensorflow.union import (
    Union,
    at_least,
    centred_rows,
    compute_dtype,
    count_rows,
    custom_gradient,
    kept,
    own_product,
    shared,
    split,
    sum_of_rows,
    summed,
    united,
)
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.protocol import NO_GROUP, Backend, Invariants, Pair
from isoscore_star.core.scaling import Target, mean_variance, scaled_target, sums_in_unit, with_target

Tensor = Any


class TensorFlowBackend(Backend):
    """Computes float64 and integers in float64, all other dtypes in float32."""

    name = "tensorflow"
    flushes_subnormals = True
    slices_from_unknown = True

    def owns(self, array: object) -> bool:
        return isinstance(array, (tf.Tensor, tf.Variable, tf.RaggedTensor)) or is_placeholder(array)

    def points(self, array: Tensor) -> Tensor:
        """Flatten to (m, d), of a ragged tensor its values; half precision is converted later."""
        values = array.flat_values if isinstance(array, tf.RaggedTensor) else tf.convert_to_tensor(array)
        flat = values if values.shape.rank == 2 else tf.reshape(values, (-1, values.shape[-1]))
        return flat if flat.dtype.is_floating else tf.cast(flat, compute_dtype(flat))

    def mask(self, mask: Any, like: Tensor) -> Tensor:
        """Flatten to booleans; a ragged tensor's mask has to be ragged too."""
        if isinstance(like, tf.RaggedTensor) or isinstance(mask, tf.RaggedTensor):
            mask = _ragged_mask(mask, like)
        elif not tf.is_tensor(mask):
            mask = np.asarray(mask) != 0
        return tf.reshape(tf.cast(mask, tf.bool), [-1])

    def constant(self, array: Any, like: Tensor) -> Tensor:
        dtype = compute_dtype(like)
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
        return _invariants(united(clouds, masks, _replicas(across)), shrinkage_cov, fourth_order)

    def pair(
        self,
        clouds: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        other_clouds: Sequence[Tensor],
        other_masks: Sequence[Tensor | None],
        *,
        across: Any = None,
    ) -> Pair:
        """Compute by d × d products, or by inner products of the points of both where one has fewer than dimensions."""
        replicas = _replicas(across)
        return _pair(united(clouds, masks, replicas), united(other_clouds, other_masks, replicas))

    def anchored(
        self, clouds: Sequence[Tensor], masks: Sequence[Tensor | None], shrinkage_cov: Tensor, *, across: Any = None
    ) -> Invariants:
        """Compute by the one product X·Σ_S, which the gradient shares; f, which the score does not need, is t."""
        return _anchored(united(clouds, masks, _replicas(across)), tf.stop_gradient(shrinkage_cov))

    def place(self, across: Any) -> tuple[Any, Any]:
        replicas = _replicas(across)
        return (0, 1) if replicas is None else (replicas.replica_id_in_sync_group, replicas.num_replicas_in_sync)

    def numbered(self, count: Any, array: Tensor, across: Any) -> tuple[Any, Any]:
        """Count the groups of the replicas before this one, and of all; each may have another number of them."""
        replica, replicas = self.place(across)
        own = tf.one_hot(replica, replicas, dtype=tf.int64) * tf.cast(count, tf.int64)
        counts = _replicas(across).all_reduce(tf.distribute.ReduceOp.SUM, own)
        return tf.cumsum(counts, exclusive=True)[replica], tf.reduce_sum(counts)

    def size(self, array: Tensor, axis: int) -> Any:
        return axes.size(array, axis)

    def every_second(self, array: Tensor, axis: int, start: Any) -> Tensor:
        return axes.every_second(array, axis, start)

    def some_along(self, array: Any, axis: int, most: int, total: Any) -> Tensor:
        return axes.some_along(array, axis, most, total)

    def numbers_along(self, array: Tensor, axis: int) -> Any:
        return axes.numbers_along(array, axis)

    def distinct(self, numbers: Sequence[Any], masks: Sequence[Any], like: Tensor) -> Tensor:
        parts = [tf.constant([NO_GROUP], tf.int64)]
        for own, keep in zip(numbers, masks, strict=True):
            part = tf.cast(own, tf.int64)
            parts.append(part if keep is None else tf.where(keep, part, parts[0]))
        ordered = tf.sort(tf.concat(parts, 0))
        return tf.math.count_nonzero(ordered[1:] != ordered[:-1])

    def flat(self, labels: Any) -> Any:
        """Flatten labels, of a ragged tensor its values."""
        return tf.reshape(labels.flat_values if isinstance(labels, tf.RaggedTensor) else labels, [-1])

    def covariance_sums(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        variances = tf.linalg.diag_part(cov) if cov.shape.rank == 2 else cov
        return sums_in_unit(variances, cov, tf.reduce_sum, self.where, tf.stop_gradient)

    def where(self, condition: Any, a: Any, b: Any) -> Tensor:
        # While a graph is built a float that comes first would be float32.
        dtype = next((part.dtype for part in (a, b) if tf.is_tensor(part)), None)
        return tf.where(condition, *(part if tf.is_tensor(part) else tf.constant(part, dtype) for part in (a, b)))

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


def _replicas(across: Any) -> Any:
    """Check `across` and return the replica context, or None without any."""
    if across is None:
        return None
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


class _Scaled(NamedTuple):
    """A union in units of its standard deviation: points, for a form of inner products, or a covariance, by `width`.

    If it is unknown while a graph is built which form has the smaller products, there are both, one with all points,
    the other with no points and no dimensions: unlike branches of a condition they can be differentiated, compiled and
    vectorized.
    """

    points: Tensor | None
    cov: Tensor | None
    far: Union | None
    width: Any
    freedom: Any
    divisor: Tensor
    unit: Tensor

    def trace(self) -> Tensor:
        """Compute tr S."""
        parts = [] if self.points is None else [_squares(self.points) / self.freedom]
        return sum(parts if self.cov is None else [*parts, _trace(self.cov)])


def _scaled(union: Union, few: Any) -> _Scaled:
    dim, freedom = union.mean.shape[0], at_least(union.count - 1, 1)
    if isinstance(few, bool):
        near, far, width = (union, None, dim) if few else (None, union, dim)
    else:
        near, far = split(union, few)
        width = tf.where(few, 0, dim)
    total: Any = 0
    if near is not None:
        points = _centred_points(near)
        total += _squares(points)
    if far is not None:
        scatter = _scatter(far, width)
        total += tf.linalg.trace(scatter)
    square, divisor = mean_variance(tf.stop_gradient(total / freedom), dim, tf.where)
    return _Scaled(
        None if near is None else points / tf.sqrt(divisor),
        None if far is None else _covariance(far, scatter, width, freedom, divisor),
        far,
        width,
        freedom,
        divisor,
        union.length * tf.sqrt(square),
    )


def _invariants(union: Union, target: Tensor | None, fourth_order: bool) -> Invariants:
    """Compute by the form with the smaller product, Gram (m × m) or scatter (d × d)."""
    found = _scaled(union, union.replicas is None and count_rows(union.clouds) < union.mean.shape[0])
    scaled = None if target is None else _scaled_target(target)
    matrix = None if scaled is None else scaled.matrix
    forms = []
    if found.points is not None:
        forms.append(_gram_form(found.points, found.freedom, matrix, fourth_order))
    if found.far is not None:
        forms.append(_scatter_form(found, matrix, fourth_order))
    t, f, *rest = (sum(parts) for parts in zip(*forms, strict=True))
    q = rest.pop(0) if fourth_order else None
    invariants = Invariants(union.count, found.unit, t, f, q, precision=_precision(t))
    return invariants if scaled is None else with_target(invariants, scaled, rest[0])


def _pair(first: Union, second: Union) -> Pair:
    """Compute by the form with the smaller products: inner products of the points of both, or scatter."""
    rows = [count_rows(union.clouds) for union in (first, second)]
    fewer = min(rows) if all(isinstance(n, int) for n in rows) else tf.minimum(*rows)
    few = first.replicas is None and fewer < first.mean.shape[0]
    a, b = _scaled(first, few), _scaled(second, few)
    inner: Any = 0
    if a.points is not None and b.points is not None:
        inner += _squares(tf.linalg.matmul(a.points, b.points, transpose_b=True)) / a.freedom / b.freedom
    if a.cov is not None and b.cov is not None:
        inner += tf.reduce_sum(a.cov * b.cov)
    return Pair((first.count, second.count), (a.unit, b.unit), a.trace(), b.trace(), inner, _precision(inner))


def _anchored(union: Union, target: Tensor) -> Invariants:
    """Compute by one product of each cloud, which the gradient shares; Σ_S is a constant."""
    scaled, freedom = _scaled_target(target), at_least(union.count - 1, 1)
    own, inner = [], []
    for cloud, mask in zip(union.clouds, union.masks, strict=True):
        rows = tf.cast(cloud, target.dtype)  # once, so that the sum of two gradients is rounded and not each of them
        centred = centred_rows(rows, mask, union)
        own.append(_centred_form(rows, centred, centred, union.length))
        inner.append(_centred_form(rows, centred, tf.linalg.matmul(centred, scaled.matrix), union.length))
    total, cross = (summed(sum(parts), union.replicas) / freedom for parts in (own, inner))
    square, divisor = mean_variance(tf.stop_gradient(total), union.mean.shape[0], tf.where)
    t = total / divisor
    invariants = Invariants(union.count, union.length * tf.sqrt(square), t, t, precision=_precision(t))
    return with_target(invariants, scaled, cross / divisor)


def _centred_form(rows: Tensor, centred: Tensor, mapped: Tensor, length: Tensor) -> Tensor:
    """Compute Σ xᵀMx of centred points from x·M, which value and gradient share, for a constant symmetric M."""

    @custom_gradient
    def form(rows: Tensor) -> Any:
        # x·M sums to zero, so there is no gradient for the mean here, only in the gradient's derivative.
        return sum_of_rows(tf.reduce_sum(mapped * centred, 1)), lambda g: 2 * g / length * mapped

    return form(rows)


def _scaled_target(target: Tensor) -> Target:
    largest = tf.stop_gradient(tf.reduce_max(tf.linalg.diag_part(target)))
    return scaled_target(target, largest, tf.linalg.trace, _squares, tf.where)


def _precision(scalar: Tensor) -> float:
    return 2.0**-23 if scalar.dtype == tf.float32 else 2.0**-52


def _squares(array: Tensor) -> Tensor:
    return tf.reduce_sum(array * array)


@custom_gradient  # TensorFlow's own is not differentiable under XLA for a dynamic shape
def _trace(matrix: Tensor) -> Any:
    return tf.linalg.trace(matrix), lambda g: g * tf.eye(tf.shape(matrix)[0], dtype=matrix.dtype)


def _centred_points(union: Union) -> Tensor:
    """Return all centred points. Centring is a symmetric projection, so its gradient is centred too."""
    keep = None
    if any(mask is not None for mask in union.masks):
        pairs = zip(union.clouds, union.masks, strict=True)
        keep = tf.concat([tf.ones(tf.shape(c)[:1], tf.bool) if mask is None else mask for c, mask in pairs], 0)

    @custom_gradient
    def centred_points(*clouds: Tensor) -> Any:
        def gradient(g: Tensor) -> list[Tensor]:
            g = kept(g, keep)
            g = kept(g - tf.reduce_sum(g, 0) / at_least(union.count, 1), keep)
            parts = tf.split(g, [count_rows([cloud]) for cloud in clouds]) if len(clouds) > 1 else [g]
            return [tf.cast(part / union.length, cloud.dtype) for part, cloud in zip(parts, clouds, strict=True)]

        pairs = zip(clouds, union.masks, strict=True)
        return tf.concat([centred_rows(*pair, union) for pair in pairs], 0), gradient

    return centred_points(*union.clouds)


def _gram_form(unit: Tensor, freedom: Any, target: Tensor | None, fourth_order: bool) -> list[Tensor]:
    """Compute T, F and optionally Q and C from the inner products of points that are centred and scaled."""

    @custom_gradient
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

    @custom_gradient
    def of_points(points: Tensor) -> Any:
        return tf.reduce_sum(mapped * points), lambda g: 2 * g * mapped

    @custom_gradient
    def of_target(target: Tensor) -> Any:
        return tf.zeros([], target.dtype), lambda g: g * tf.linalg.matmul(points, points, transpose_a=True)

    return of_points(points) + of_target(target)


def _of_width(width: Any, rows: Tensor) -> Tensor:
    """Reshape rows to a width, which differs from theirs only if there are none."""
    return tf.reshape(rows, [tf.shape(rows)[0], width])


def _scatter(union: Union, width: Any) -> Tensor:
    """Compute the scatter of the points, in units of the length, without gradient."""
    parts = []
    for pair in zip(union.clouds, union.masks, strict=True):
        centred = _of_width(width, tf.stop_gradient(centred_rows(*pair, union)))
        parts.append(own_product(centred, union.mean.shape[0]))
    return summed(sum(parts), union.replicas)


def _covariance(union: Union, scatter: Tensor, width: Any, freedom: Any, divisor: Tensor) -> Tensor:
    """Compute S/s² of the scatter, with its gradient in the points."""

    @custom_gradient
    def covariance(*clouds: Tensor) -> Any:
        def gradient(g: Tensor) -> list[Tensor]:
            g = shared((g + tf.transpose(g)) / (freedom * divisor), union.replicas) / union.length
            parts = []
            for cloud, mask in zip(clouds, union.masks, strict=True):
                centred = _of_width(width, centred_rows(cloud, mask, union))
                parts.append(tf.cast(tf.reshape(tf.linalg.matmul(centred, g), tf.shape(cloud)), cloud.dtype))
            return parts

        # Centred points sum to zero, so there is no gradient for the mean here, only in the gradient's derivative.
        return scatter / (freedom * divisor), gradient

    return covariance(*union.clouds)


def _scatter_form(found: _Scaled, target: Tensor | None, fourth_order: bool) -> list[Tensor]:
    """Compute T, F and optionally Q and C from S/s²."""
    cov, far = cast(Tensor, found.cov), cast(Union, found.far)
    invariants = [_trace(cov), _squares(cov)]
    if fourth_order:
        fourth = sum(_fourth_powers(*pair, far, found.divisor) for pair in zip(far.clouds, far.masks, strict=True))
        invariants.append(summed(fourth, far.replicas) / found.freedom)
    if target is not None:
        head, _ = tf.split(target, [found.width, target.shape[0] - found.width])
        invariants.append(tf.reduce_sum(_of_width(target.shape[0], cov) * head))
    return invariants


def _fourth_powers(cloud: Tensor, mask: Tensor | None, union: Union, divisor: Tensor) -> Tensor:
    """Compute Σ‖x−μ‖⁴/s⁴, without keeping the centred points for the gradient."""

    @custom_gradient
    def fourth(rows: Tensor, mean: Tensor) -> Any:
        def norms(centred: Tensor) -> Tensor:
            return tf.reduce_sum(centred * centred, 1) / divisor

        def gradient(g: Tensor) -> Any:
            centred = centred_rows(rows, mask, union._replace(mean=mean))
            on_rows = centred / divisor * (4 * g * norms(centred))[:, None]
            return tf.cast(on_rows / union.length, rows.dtype), -sum_of_rows(on_rows)

        squared_norms = norms(centred_rows(rows, mask, union._replace(mean=mean)))
        return sum_of_rows(squared_norms * squared_norms), gradient

    return fourth(cloud, union.mean)


BACKEND = TensorFlowBackend()
