"""JAX: closed-form gradients of any order, in both modes, under every transformation.

The products are `jax.custom_jvp`, not `custom_vjp`: JAX transposes the linear tangent rule to the one product of the
closed-form gradient, and `jvp`, `hessian` and `vmap` work too. JAX recompiles for every new shape, so pad batches of
varying size to one size, with a mask.

Arrays that are sharded over devices are measured as a whole under plain `jax.jit`. Inside `jax.shard_map` a function
sees one device's points; ``across`` names the mesh axis (or a tuple of axes) over which to unite them::

    def loss(states):  # of one device
        return iso.istar_loss(states, zeta=0.0, across="data")

    global_loss = jax.shard_map(loss, mesh=mesh, in_specs=P("data"), out_specs=P())

The same holds for `jax.vmap` and `jax.pmap` with an ``axis_name``. A gradient taken inside `jax.shard_map` is that of
the global loss, also for parameters that all devices share. With ``check_vma=False`` (and in `jax.pmap`) JAX
differentiates the sum of all devices' losses: average the parameters' gradient there by `jax.lax.pmean`.

The two halves of the groups are cheapest for an even number of sequences on each device: with an odd one, under
``across``, each half takes products of all rows, those of the other half masked, and sharded arrays are moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.protocol import NO_GROUP, Backend, Invariants, Pair
from isoscore_star.core.scaling import mean_variance, scaled_target, sums_in_unit, with_target

Array = jax.Array

_BLOCK = 16
"""Rows of a product, per dimension. With n rows and one far point rounding changes the score by up to 2n/d·ε."""

_PART = 64
"""Rows that are summed at once: the mean errs by at most some ε of the differences from the anchor."""


class JaxBackend(Backend):
    """Computes float64 and integers in float64 where JAX has it enabled, all other dtypes in float32."""

    name = "jax"
    flushes_subnormals = True

    def owns(self, array: object) -> bool:
        """Return whether the array is JAX's, or a tracer."""
        return isinstance(array, jax.Array)

    def points(self, array: Array) -> Array:
        """Flatten to (m, d); half precision is converted later, without a copy."""
        flat = array if array.ndim == 2 else array.reshape(-1, array.shape[-1])
        return flat if jnp.issubdtype(flat.dtype, jnp.floating) else flat.astype(_compute_dtype(flat))

    def mask(self, mask: Any, like: Array) -> Array:
        mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
        return _beside(jnp.asarray(mask.reshape(-1).astype(bool)), like)

    def constant(self, array: Any, like: Array) -> Array:
        with np.errstate(over="ignore"):  # value checks explain values that are not finite
            return _beside(jnp.asarray(array, dtype=_compute_dtype(like)), like)

    def invariants(
        self,
        clouds: Sequence[Array],
        masks: Sequence[Array | None],
        shrinkage_cov: Array | None,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute by the form with the smaller product; across devices by the scatter form, whose parts add up."""
        axes = _axes(across)
        rows, dim = sum(len(cloud) for cloud in clouds), clouds[0].shape[1]
        form = _gram_form if rows < dim and not axes else partial(_scatter_form, axes=axes)
        compute = _inferring_shardings(partial(form, fourth_order=fourth_order), clouds[0])
        invariants: Invariants = compute(list(clouds), list(masks), shrinkage_cov)
        invariants = invariants._replace(precision=_precision(clouds[0]))
        masked = any(mask is not None for mask in masks)
        return invariants if masked else invariants._replace(count=_count(clouds, masks, axes))

    def pair(
        self,
        clouds: Sequence[Array],
        masks: Sequence[Array | None],
        other_clouds: Sequence[Array],
        other_masks: Sequence[Array | None],
        *,
        across: Any = None,
    ) -> Pair:
        """Compute by d × d products, or by inner products of the points of both where one has fewer than dimensions."""
        axes = _axes(across)
        rows = min(sum(len(cloud) for cloud in half) for half in (clouds, other_clouds))
        form = _inner_products_form if rows < clouds[0].shape[1] and not axes else partial(_scatters_form, axes=axes)
        compute = _inferring_shardings(form, clouds[0])
        pair: Pair = compute((list(clouds), list(masks)), (list(other_clouds), list(other_masks)))
        return pair._replace(precision=_precision(clouds[0]))

    def anchored(
        self, clouds: Sequence[Array], masks: Sequence[Array | None], shrinkage_cov: Array, *, across: Any = None
    ) -> Invariants:
        """Compute by the one product X·Σ_S, which the gradient shares; f, which the score does not need, is t."""
        form = partial(_anchored_form, axes=_axes(across))
        invariants: Invariants = _inferring_shardings(form, clouds[0])(list(clouds), list(masks), shrinkage_cov)
        return invariants._replace(precision=_precision(clouds[0]))

    def place(self, across: Any) -> tuple[Any, Any]:
        """Return this device's number on the axes, in their order, which has no value while tracing."""
        axes = _axes(across)
        return jax.lax.axis_index(axes).astype(jnp.result_type(int)), _all_sum(1, axes)

    def every_second(self, array: Any, axis: int, start: int) -> Any:
        """Slice; on the explicit axes of a mesh rows stay where they are if every device keeps as many."""
        if not isinstance(array, jax.Array):
            return super().every_second(array, axis, start)
        mesh, names = jax.typeof(array).sharding.mesh, jax.typeof(array).sharding.spec[axis]
        names = names if isinstance(names, tuple) else (names,)
        shards = math.prod(mesh.shape[name] for name in names if name in mesh.explicit_axes)
        if len(range(start, array.shape[axis], 2)) % shards:
            array = jax.sharding.reshard(array, NamedSharding(mesh, PartitionSpec()))  # type: ignore[no-untyped-call]
        return jax.lax.slice_in_dim(array, min(start, array.shape[axis]), None, stride=2, axis=axis)

    def distinct(self, numbers: Sequence[Any], masks: Sequence[Any], like: Array) -> Array:
        def of_parts(numbers: list[Any], masks: list[Any]) -> Array:
            parts = [jnp.asarray(own).astype(int) for own in numbers]
            parts = [
                part if keep is None else jnp.where(keep, part, NO_GROUP)
                for part, keep in zip(parts, masks, strict=True)
            ]
            ordered = jnp.sort(jnp.concatenate([jnp.full(1, NO_GROUP), *parts]))
            return jnp.sum(ordered[1:] != ordered[:-1])

        found: Array = _inferring_shardings(of_parts, like)(list(numbers), list(masks))
        return found

    def covariance_sums(self, cov: Array) -> tuple[Array, Array]:
        variances = _diagonal(cov) if cov.ndim == 2 else cov
        return sums_in_unit(variances, cov, jnp.sum, jnp.where, jax.lax.stop_gradient)

    def where(self, condition: Any, a: Any, b: Any) -> Array:
        return jnp.where(condition, a, b)

    def concrete(self, scalar: Any) -> float | None:
        """Return the value, which waits for the device; None inside any transformation."""
        return None if isinstance(scalar, jax.core.Tracer) else float(scalar)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host, dtypes that NumPy lacks, such as bfloat16, as float32."""
        values = np.asarray(array)
        return values.astype(np.float32) if values.dtype.kind == "V" else values


def _compute_dtype(points: Array) -> Any:
    narrow = jnp.issubdtype(points.dtype, jnp.floating) and points.dtype != jnp.float64
    return jnp.dtype(jnp.float32) if narrow else jnp.result_type(float)


def _precision(points: Array) -> float:
    return float(np.finfo(_compute_dtype(points)).eps)


def _beside(array: Array, like: Array) -> Array:
    # JAX does not compute with arrays that were put on different devices.
    if isinstance(array, jax.core.Tracer) or isinstance(like, jax.core.Tracer) or len(like.devices()) > 1:
        return array
    return array if array.devices() == like.devices() else jax.device_put(array, like.sharding)


def _inferring_shardings(function: Callable[..., Any], points: Array) -> Callable[..., Any]:
    # On the explicit axes of a mesh JAX infers no sharding for a product.
    mesh = jax.typeof(points).sharding.mesh
    if not mesh.explicit_axes:
        return function
    replicated = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
    inferring: Callable[..., Any] = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=replicated)
    return inferring


def _axes(across: Any) -> tuple[str, ...]:
    """Check `across` and return a tuple of axis names, empty for None."""
    if across is None:
        return ()
    axes = across if isinstance(across, tuple) else (across,)
    if not axes or not all(isinstance(axis, str) for axis in axes):
        raise InvalidTypeError("across", f"expected the name of a mesh axis, or a tuple of names; got {across!r}")
    try:
        _all_sum(1, axes)
    except NameError:
        raise InvalidValueError(
            "across",
            f"{across!r} names no axis that is mapped here. Call inside of jax.shard_map over a mesh with that "
            "axis (or jax.vmap or jax.pmap with that axis_name), or leave across out: arrays sharded under plain "
            "jax.jit are measured as a whole anyway",
        ) from None
    return axes


def _all_sum(value: Any, axes: tuple[str, ...]) -> Any:
    return jax.lax.psum(value, axes) if axes else value  # type: ignore[no-untyped-call]


def _count(clouds: Sequence[Array], masks: Sequence[Array | None], axes: tuple[str, ...]) -> Any:
    """Return m; without masks a float, since JAX computes the square of an int in 32 bits."""
    dtype = _compute_dtype(clouds[0])
    known = sum(len(cloud) for cloud, mask in zip(clouds, masks, strict=True) if mask is None)
    masked = [mask.sum(dtype=dtype) for mask in masks if mask is not None]
    if not masked:
        return float(_all_sum(known, axes))
    return _all_sum(sum(masked, jnp.asarray(known, dtype)), axes)


def _product(a: Array, b: Array) -> Array:
    # The default on accelerators rounds float32 to TF32 or bfloat16, about three digits.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _in_blocks(array: Array, most: int) -> Array:
    """Cut rows into zero-padded blocks, (m, ...) to (n, ≤ most, ...), which split evenly over 2ᵏ devices if rows do."""
    rows = len(array)
    if rows <= most or not array.size:
        return array[None]
    least = -(-rows // most)
    power = min(rows & -rows, 1 << (least.bit_length() - 1), 256)
    even = (size for size in range(most, most // 4, -1) if rows % (size * power) == 0)
    size = next(even, -(-rows // (-(-least // power) * power)))
    count = -(-rows // (size * power)) * power
    if count * size > rows:
        array = jnp.pad(array, [(0, count * size - rows)] + [(0, 0)] * (array.ndim - 1))
    return array.reshape(count, size, *array.shape[1:])


def _sum(parts: Array) -> Array:
    """Sum over the first axis in stages of sixteen, which limits rounding."""
    while len(parts) > 1:
        parts = _in_blocks(parts, 16).sum(1)
    return parts[0]


def _sum_of_rows(rows: Array) -> Array:
    return _sum(_in_blocks(rows, _PART).sum(1))


@jax.custom_jvp
def _symmetric_product(rows: Array, centred: Array) -> Array:
    """Return centredᵀ·centred, differentiated by `rows`, the points before centring, which adds no term."""
    blocks = _in_blocks(centred, _BLOCK * centred.shape[1])
    return _product(centred.T, centred) if len(blocks) < 2 else _sum(_product(blocks.mT, blocks))


@_symmetric_product.defjvp
def _symmetric_product_tangent(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    half = _product(tangents[0].T, primals[1])
    return _symmetric_product(*primals), half + half.T


@jax.custom_jvp
def _quadratic_form(rows: Array, centred: Array, matrix: Array | None, mapped: Array) -> Array:
    """Return Σ xᵢᵀMxᵢ of centred points, for a symmetric M (or the identity), differentiated by `rows` and M.

    It is given the product X·M, which value and gradient share; that sums to zero, so centring adds no term.
    """
    return _sum_of_rows((mapped * centred).sum(1))


@partial(_quadratic_form.defjvp, symbolic_zeros=True)
def _quadratic_form_tangent(primals: tuple[Array, Array, Any, Array], tangents: Any) -> tuple[Array, Array]:
    _, centred, _, mapped = primals
    by_rows, _, by_matrix, _ = tangents
    tangent = jnp.zeros_like(mapped, shape=())
    if not isinstance(by_rows, SymbolicZero):
        tangent += 2 * (mapped * by_rows).sum()
    if not (by_matrix is None or isinstance(by_matrix, SymbolicZero)):
        tangent += (_product(centred, by_matrix) * centred).sum()
    return _quadratic_form(*primals), tangent


class _Cloud(NamedTuple):
    """A union's points as differences from an anchor in units of a length, by clouds; masked ones are zero."""

    count: Any
    length: Array
    rows: list[Array]
    centred: list[Array]


def _cloud(clouds: Sequence[Array], masks: Sequence[Array | None], axes: tuple[str, ...]) -> _Cloud:
    """Centre the union of the clouds, over all devices.

    The anchor is each coordinate's largest value: differences are exact for close points, zero for identical ones. The
    length is about the largest difference, so that no product leaves the range of floats.
    """
    count = _count(clouds, masks, axes)
    anchor, spread = _extent(clouds, masks, axes)
    # The power of two nearest to an eighth of it, by which division is exact; its reciprocal, by which XLA multiplies,
    # is in range.
    bits = np.finfo(anchor.dtype)
    length = jax.lax.reduce_precision(jnp.maximum(spread / 8, float(bits.tiny)), int(bits.nexp), 0)
    length = jnp.where(jnp.isfinite(spread) & (spread > 0), length, 1)
    rows = [
        (_kept(c.astype(anchor.dtype), keep, anchor) - anchor) / length for c, keep in zip(clouds, masks, strict=True)
    ]
    mean = _all_sum(sum(_sum_of_rows(part)[None] for part in rows), axes) / jnp.maximum(count, 1)
    centred = [_kept(part - mean, keep, 0) for part, keep in zip(rows, masks, strict=True)]
    return _Cloud(count, length, rows, centred)


def _extent(clouds: Sequence[Array], masks: Sequence[Array | None], axes: tuple[str, ...]) -> tuple[Array, Array]:
    """Return each coordinate's largest value, (1, d), zero without points, and the widest range."""
    highest = jnp.full((2, clouds[0].shape[1]), -jnp.inf, _compute_dtype(clouds[0]))
    for cloud, keep in zip(clouds, masks, strict=True):
        cloud, where = jax.lax.stop_gradient(cloud), None if keep is None else keep[:, None]
        own = [sign.max(0, initial=-jnp.inf, where=where) for sign in (cloud, -cloud)]
        highest = jnp.maximum(highest, jnp.stack(own).astype(highest.dtype))
    if axes:
        highest = jax.lax.pmax(highest, axes)  # type: ignore[no-untyped-call]
    return jnp.where(highest[:1] > -jnp.inf, highest[:1], 0), highest.sum(0).max()


def _kept(rows: Array, keep: Array | None, instead: Any) -> Array:
    return rows if keep is None else jnp.where(keep[:, None], rows, instead)


def _diagonal(matrix: Array) -> Array:
    # A slice, since for jnp.trace XLA copies the matrix with zeros off the diagonal.
    return matrix.reshape(-1)[:: len(matrix) + 1]


class _Scaled(NamedTuple):
    """What is in units of the standard deviation: points or a covariance; that unit, its square in lengths, m − 1."""

    array: Array
    unit: Array
    divisor: Array
    freedom: Any


def _scaled_points(cloud: _Cloud) -> _Scaled:
    centred, freedom = jnp.concatenate(cloud.centred), _freedom(cloud)
    total = jax.lax.stop_gradient((centred * centred).sum() / freedom)
    square, divisor = mean_variance(total, centred.shape[1], jnp.where)
    return _Scaled(centred / jnp.sqrt(divisor), cloud.length * jnp.sqrt(square), divisor, freedom)


def _scaled_covariance(cloud: _Cloud, axes: tuple[str, ...]) -> _Scaled:
    freedom = _freedom(cloud)
    products = [_symmetric_product(*pair) for pair in zip(cloud.rows, cloud.centred, strict=True)]
    cov = _all_sum(sum(products), axes) / freedom
    square, divisor = mean_variance(jax.lax.stop_gradient(_diagonal(cov).sum()), len(cov), jnp.where)
    return _Scaled(cov / divisor, cloud.length * jnp.sqrt(square), divisor, freedom)


def _freedom(cloud: _Cloud) -> Any:
    return jnp.maximum(cloud.count - 1, 1)


@partial(jax.jit, static_argnames="fourth_order")
def _gram_form(
    clouds: list[Array], masks: list[Array | None], target: Array | None, *, fourth_order: bool
) -> Invariants:
    cloud = _cloud(clouds, masks, ())
    points, unit, _, freedom = _scaled_points(cloud)
    gram = _symmetric_product(points.T, points.T)
    squared_norms = _diagonal(gram)
    t, f = squared_norms.sum() / freedom, (gram * gram).sum() / (freedom * freedom)
    q = (squared_norms * squared_norms).sum() / freedom if fourth_order else None
    return _with_target(
        Invariants(cloud.count, unit, t, f, q),
        target,
        lambda matrix: _quadratic_form(points, points, matrix, _product(points, matrix)) / freedom,
    )


@partial(jax.jit, static_argnames=("fourth_order", "axes"))
def _scatter_form(
    clouds: list[Array],
    masks: list[Array | None],
    target: Array | None,
    *,
    fourth_order: bool,
    axes: tuple[str, ...],
) -> Invariants:
    cloud = _cloud(clouds, masks, axes)
    cov, unit, divisor, freedom = _scaled_covariance(cloud, axes)
    fourth = None
    if fourth_order:
        squared_norms = [(part * part).sum(1) / divisor for part in cloud.centred]
        fourth = _all_sum(sum(_sum_of_rows(n * n) for n in squared_norms), axes) / freedom
    invariants = Invariants(cloud.count, unit, _diagonal(cov).sum(), (cov * cov).sum(), fourth)
    return _with_target(invariants, target, lambda matrix: (cov * matrix).sum())


_Half = tuple[list[Array], list[Array | None]]
"""The clouds of a half and their masks."""


@jax.jit
def _inner_products_form(*halves: _Half) -> Pair:
    clouds = [_cloud(*half, ()) for half in halves]
    a, b = map(_scaled_points, clouds)
    t_a, t_b = ((half.array * half.array).sum() / half.freedom for half in (a, b))
    products = _product(a.array, b.array.T)
    inner = (products * products).sum() / (a.freedom * b.freedom)
    return Pair((clouds[0].count, clouds[1].count), (a.unit, b.unit), t_a, t_b, inner)


@partial(jax.jit, static_argnames="axes")
def _scatters_form(*halves: _Half, axes: tuple[str, ...]) -> Pair:
    clouds = [_cloud(*half, axes) for half in halves]
    a, b = (_scaled_covariance(cloud, axes) for cloud in clouds)
    t_a, t_b = (_diagonal(half.array).sum() for half in (a, b))
    return Pair((clouds[0].count, clouds[1].count), (a.unit, b.unit), t_a, t_b, (a.array * b.array).sum())


@partial(jax.jit, static_argnames="axes")
def _anchored_form(
    clouds: list[Array], masks: list[Array | None], target: Array, *, axes: tuple[str, ...]
) -> Invariants:
    cloud = _cloud(clouds, masks, axes)
    freedom, pairs = _freedom(cloud), list(zip(cloud.rows, cloud.centred, strict=True))

    def form(matrix: Array | None) -> Array:
        """Return Σ xᵀMx/(m − 1), or tr S without M."""
        mapped = [centred if matrix is None else _product(centred, matrix) for centred in cloud.centred]
        parts = [_quadratic_form(*pair, matrix, part) for pair, part in zip(pairs, mapped, strict=True)]
        result: Array = _all_sum(sum(parts), axes) / freedom
        return result

    total = form(None)
    square, divisor = mean_variance(jax.lax.stop_gradient(total), clouds[0].shape[1], jnp.where)
    t = total / divisor
    invariants = Invariants(cloud.count, cloud.length * jnp.sqrt(square), t, t)
    return _with_target(invariants, jax.lax.stop_gradient(target), lambda matrix: form(matrix) / divisor)


def _with_target(invariants: Invariants, target: Array | None, product: Callable[[Array], Array]) -> Invariants:
    """Return the invariants with those of Σ_S, given ⟨S, ·⟩."""
    if target is None:
        return invariants
    largest = jax.lax.stop_gradient(_diagonal(target)).max()
    scaled = scaled_target(target, largest, lambda m: _diagonal(m).sum(), lambda m: (m * m).sum(), jnp.where)
    return with_target(invariants, scaled, product(scaled.matrix))


BACKEND = JaxBackend()
