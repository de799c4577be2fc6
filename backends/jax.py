"""JAX: closed-form gradients of any order, in both modes, under every transformation.

The products are `jax.custom_jvp`, not `custom_vjp`: the tangent rule is linear, so JAX transposes it to the one
product of the closed-form gradient, and `jvp`, `hessian` and `vmap` work as well as `grad` does. JAX compiles anew for
every new shape, so batches of varying size are better padded to one size, with a mask.

Arrays that are sharded over devices need nothing special under plain `jax.jit`. Inside `jax.shard_map` a function sees
one device's points; ``across`` names the mesh axis (or a tuple of axes) over which they are to be united::

    def loss(states):  # of one device
        return iso.istar_loss(states, zeta=0.0, across="data")

    global_loss = jax.shard_map(loss, mesh=mesh, in_specs=P("data"), out_specs=P())

So do `jax.vmap` and `jax.pmap` with an ``axis_name``. A gradient taken inside of `jax.shard_map` is that of the one
global loss, also for parameters that every device shares. With ``check_vma=False`` (and in `jax.pmap`) JAX
differentiates the sum of all devices' losses instead: there average the parameters' gradient by `jax.lax.pmean`.
"""

from __future__ import annotations

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
from isoscore_star.core.protocol import Backend, Invariants
from isoscore_star.core.scaling import mean_variance, scaled_target, sums_in_unit, with_target

Array = jax.Array

_BLOCK = 16
"""Rows for each dimension that a product takes at once. Of n, one far point lets rounding lose 2n/d·ε of the score."""

_PART = 64
"""Rows that are summed at once, by which the mean errs by some ε of the differences from the anchor at the most."""


class JaxBackend(Backend):
    """Float64 points and integers are computed in float64 where JAX has it enabled, all else in float32."""

    name = "jax"
    flushes_subnormals = True

    def owns(self, array: object) -> bool:
        """Return whether the array is one of JAX's, or a tracer of one."""
        return isinstance(array, jax.Array)

    def points(self, array: Array) -> Array:
        """Flatten to (m, d); half precision is converted later, where that needs no copy."""
        flat = array if array.ndim == 2 else array.reshape(-1, array.shape[-1])
        return flat if jnp.issubdtype(flat.dtype, jnp.floating) else flat.astype(_compute_dtype(flat))

    def mask(self, mask: Any, like: Array) -> Array:
        """Flatten to booleans on the points' device."""
        mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
        return _beside(jnp.asarray(mask.reshape(-1).astype(bool)), like)

    def constant(self, array: Any, like: Array) -> Array:
        """Bring to the dtype of computation and the device."""
        with np.errstate(over="ignore"):  # whoever asked explains values that are not finite
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
        """Compute by the form that needs the smaller product; across devices by the one whose parts add up."""
        axes = _axes(across)
        rows, dim = sum(len(cloud) for cloud in clouds), clouds[0].shape[1]
        form = _gram_form if rows < dim and not axes else partial(_scatter_form, axes=axes)
        compute = _inferring_shardings(partial(form, fourth_order=fourth_order), clouds[0])
        found: Invariants = compute(list(clouds), list(masks), shrinkage_cov)
        found = found._replace(precision=float(np.finfo(_compute_dtype(clouds[0])).eps))
        return found if any(mask is not None for mask in masks) else found._replace(count=_count(clouds, masks, axes))

    def covariance_sums(self, cov: Array) -> tuple[Array, Array]:
        """Compute tr C and ‖C‖²_F."""
        variances = _diagonal(cov) if cov.ndim == 2 else cov
        return sums_in_unit(variances, cov, jnp.sum, jnp.where, jax.lax.stop_gradient)

    def where(self, condition: Any, a: Any, b: Any) -> Array:
        """Choose between scalars without looking at them."""
        return jnp.where(condition, a, b)

    def concrete(self, scalar: Any) -> float | None:
        """Return the value, which waits for the device; None inside any transformation."""
        return None if isinstance(scalar, jax.core.Tracer) else float(scalar)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host; what NumPy has no dtype for, such as bfloat16, as float32."""
        values = np.asarray(array)
        return values.astype(np.float32) if values.dtype.kind == "V" else values


def _compute_dtype(points: Array) -> Any:
    narrow = jnp.issubdtype(points.dtype, jnp.floating) and points.dtype != jnp.float64
    return jnp.dtype(jnp.float32) if narrow else jnp.result_type(float)


def _beside(array: Array, like: Array) -> Array:
    # JAX refuses to compute with arrays that were put on different devices.
    if isinstance(array, jax.core.Tracer) or isinstance(like, jax.core.Tracer) or len(like.devices()) > 1:
        return array
    return array if array.devices() == like.devices() else jax.device_put(array, like.sharding)


def _inferring_shardings(function: Callable[..., Any], points: Array) -> Callable[..., Any]:
    # On the explicit axes of a mesh JAX infers no sharding of a product's result, but asks for it.
    mesh = jax.typeof(points).sharding.mesh
    if not mesh.explicit_axes:
        return function
    replicated = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
    inferring: Callable[..., Any] = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=replicated)
    return inferring


def _axes(across: Any) -> tuple[str, ...]:
    """Check `across` and give it as a tuple of axis names, empty for None."""
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
    """Return m; without masks a float, since JAX would hold the square of an int in 32 bits."""
    dtype = _compute_dtype(clouds[0])
    known = sum(len(cloud) for cloud, mask in zip(clouds, masks, strict=True) if mask is None)
    masked = [mask.sum(dtype=dtype) for mask in masks if mask is not None]
    if not masked:
        return float(_all_sum(known, axes))
    return _all_sum(sum(masked, jnp.asarray(known, dtype)), axes)


def _product(a: Array, b: Array) -> Array:
    # The default on accelerators rounds float32 to TF32 or bfloat16 first, which costs all but three digits.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _in_blocks(array: Array, most: int) -> Array:
    """Cut rows into blocks of at most so many, (m, ...) to (n, rows, ...), with zeros at the end where there is need.

    Rows that are sharded over devices, some power of two of them, stay where they are if that power divides n too.
    """
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
    """Sum over the first axis in stages of sixteen, so that rounding hardly grows with the number of parts."""
    while len(parts) > 1:
        parts = _in_blocks(parts, 16).sum(1)
    return parts[0]


def _sum_of_rows(rows: Array) -> Array:
    return _sum(_in_blocks(rows, _PART).sum(1))


@jax.custom_jvp
def _symmetric_product(rows: Array, centred: Array) -> Array:
    """Return centredᵀ·centred, differentiated through `rows`, the points before centring.

    Centring adds no term of its own, since over all clouds and devices the centred points sum to zero.
    """
    blocks = _in_blocks(centred, _BLOCK * centred.shape[1])
    return _product(centred.T, centred) if len(blocks) < 2 else _sum(_product(blocks.mT, blocks))


@_symmetric_product.defjvp
def _symmetric_product_tangent(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    half = _product(tangents[0].T, primals[1])
    return _symmetric_product(*primals), half + half.T


@jax.custom_jvp
def _quadratic_form(rows: Array, matrix: Array, mapped: Array) -> Array:
    """Return Σ xᵢᵀMxᵢ for a symmetric M and the product X·M, so that this one serves value and gradient."""
    return (mapped * rows).sum()


@partial(_quadratic_form.defjvp, symbolic_zeros=True)
def _quadratic_form_tangent(primals: tuple[Array, Array, Array], tangents: Any) -> tuple[Array, Array]:
    rows, _, mapped = primals
    by_rows, by_matrix, _ = tangents
    tangent = jnp.zeros_like(mapped, shape=())
    if not isinstance(by_rows, SymbolicZero):
        tangent += 2 * (mapped * by_rows).sum()
    if not isinstance(by_matrix, SymbolicZero):
        tangent += (_product(rows, by_matrix) * rows).sum()
    return _quadratic_form(*primals), tangent


class _Cloud(NamedTuple):
    """The points of a union as differences from an anchor in units of a length, by clouds; masked ones are zero."""

    count: Any
    length: Array
    rows: list[Array]
    centred: list[Array]


def _cloud(clouds: Sequence[Array], masks: Sequence[Array | None], axes: tuple[str, ...]) -> _Cloud:
    """Centre the union of the clouds, and of all devices.

    The anchor is each coordinate's largest value. Differences from it are exactly zero for identical points and exact
    for close ones, so that a mean far from zero costs no digits and a cloud without spread has exactly zero scatter.
    The length is about the largest of them, so that no product leaves the range of floats.
    """
    count = _count(clouds, masks, axes)
    anchor, spread = _extent(clouds, masks, axes)
    # The power of two nearest to an eighth of it: dividing by that rounds nothing, and it is in range itself, as is its
    # reciprocal, by which XLA multiplies.
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
    """Return each coordinate's largest value, (1, d), zero if there are no points, and the widest range of all."""
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
    # A slice, since for jnp.trace XLA makes a copy of the matrix with zeros beside the diagonal.
    return matrix.reshape(-1)[:: len(matrix) + 1]


@partial(jax.jit, static_argnames="fourth_order")
def _gram_form(
    clouds: list[Array], masks: list[Array | None], target: Array | None, *, fourth_order: bool
) -> Invariants:
    cloud = _cloud(clouds, masks, ())
    centred = jnp.concatenate(cloud.centred)
    freedom = jnp.maximum(cloud.count - 1, 1)
    total = jax.lax.stop_gradient((centred * centred).sum() / freedom)
    square, divisor = mean_variance(total, centred.shape[1], jnp.where)
    points = centred / jnp.sqrt(divisor)
    gram = _symmetric_product(points.T, points.T)
    squared_norms = _diagonal(gram)
    found = Invariants(
        cloud.count,
        cloud.length * jnp.sqrt(square),
        t=squared_norms.sum() / freedom,
        f=(gram * gram).sum() / (freedom * freedom),
        q=(squared_norms * squared_norms).sum() / freedom if fourth_order else None,
    )
    return _with_target(
        found, target, lambda matrix: _quadratic_form(points, matrix, _product(points, matrix)) / freedom
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
    freedom = jnp.maximum(cloud.count - 1, 1)
    products = [_symmetric_product(*pair) for pair in zip(cloud.rows, cloud.centred, strict=True)]
    cov = _all_sum(sum(products), axes) / freedom
    square, divisor = mean_variance(jax.lax.stop_gradient(_diagonal(cov).sum()), len(cov), jnp.where)
    cov = cov / divisor
    fourth = None
    if fourth_order:
        squared_norms = [(part * part).sum(1) / divisor for part in cloud.centred]
        fourth = _all_sum(sum(_sum_of_rows(n * n) for n in squared_norms), axes) / freedom
    found = Invariants(
        cloud.count, cloud.length * jnp.sqrt(square), t=_diagonal(cov).sum(), f=(cov * cov).sum(), q=fourth
    )
    return _with_target(found, target, lambda matrix: (cov * matrix).sum())


def _with_target(found: Invariants, target: Array | None, product: Callable[[Array], Array]) -> Invariants:
    """Add what depends on Σ_S, given its product with S."""
    if target is None:
        return found
    largest = jax.lax.stop_gradient(_diagonal(target)).max()
    scaled = scaled_target(target, largest, lambda m: _diagonal(m).sum(), lambda m: (m * m).sum(), jnp.where)
    return with_target(found, scaled, product(scaled.matrix))


BACKEND = JaxBackend()
