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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from isoscore_star._errors import InvalidTypeError, InvalidValueError
from isoscore_star._protocol import Invariants

Array = jax.Array


class JaxBackend:
    """Float64 points and integers are computed in float64 where JAX has it enabled, all else in float32."""

    name = "jax"
    differentiable = True
    distributed = True
    takes: tuple[str, ...] = ()

    def owns(self, array: object) -> bool:
        """Tell whether the array is one of JAX's, or a tracer of one."""
        return isinstance(array, jax.Array)

    def dtype_name(self, array: Array) -> str:
        """Name the dtype."""
        return str(array.dtype)

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
        return found if any(mask is not None for mask in masks) else found._replace(count=_count(clouds, masks, axes))

    def total(self, array: Array) -> Array:
        """Sum all entries."""
        return array.sum()

    def diagonal(self, matrix: Array) -> Array:
        """Take the diagonal."""
        return _diagonal(matrix)

    def detached(self, scalar: Array) -> Array:
        """Give it without gradient."""
        constant: Array = jax.lax.stop_gradient(scalar)
        return constant

    def where(self, condition: Any, a: Any, b: Any) -> Array:
        """Choose between scalars without looking at them."""
        return jnp.where(condition, a, b)

    def concrete(self, scalar: Any) -> float | None:
        """Give the value, which waits for the device; None inside any transformation."""
        return None if isinstance(scalar, jax.core.Tracer) else float(scalar)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to the host; what NumPy has no dtype for, such as bfloat16, as float32."""
        values = np.asarray(array)
        return values.astype(np.float32) if values.dtype.kind == "V" else values

    def result(self, score: Array) -> Array:
        """Leave the 0-d array as it is."""
        return score

    def devices(self) -> tuple[str, ...]:
        """Name those of this process: ``"cpu"``, ``"cpu:1"``, ``"gpu:0"``, ..."""
        return tuple(_devices())

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Array:
        """Convert on the host, then copy to the device; float64 also where it is not enabled."""
        with _enabled(dtype):
            X: Array = jax.device_put(array.astype(jnp.dtype(dtype)), _devices()[device])
        return X

    def value_and_gradient(self, function: Callable[[Array], Array], X: Array) -> tuple[Array, Array]:
        """Differentiate, in float64 if that is X's dtype."""
        with _enabled(self.dtype_name(X)):
            value, gradient = jax.value_and_grad(function)(X)
        return value, gradient


def _compute_dtype(points: Array) -> Any:
    narrow = jnp.issubdtype(points.dtype, jnp.floating) and points.dtype != jnp.float64
    return jnp.dtype(jnp.float32) if narrow else jnp.result_type(float)


def _enabled(dtype: str) -> Any:
    switch: Any = jax if hasattr(jax, "enable_x64") else jax.experimental  # before JAX 0.8
    return switch.enable_x64(dtype == "float64" or jnp.result_type(float) == jnp.float64)


def _devices() -> dict[str, jax.Device]:
    return {"cpu": jax.local_devices(backend="cpu")[0]} | {
        f"{device.platform}:{device.id}": device
        for device in jax.local_devices()
        if (device.platform, device.id) != ("cpu", 0)
    }


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
        raise InvalidTypeError(f"across: expected the name of a mesh axis, or a tuple of names; got {across!r}")
    try:
        _all_sum(1, axes)
    except NameError:
        raise InvalidValueError(
            f"across: {across!r} names no axis that is mapped here. Call inside of jax.shard_map over a mesh with that "
            "axis (or jax.vmap or jax.pmap with that axis_name), or leave across out: arrays sharded under plain "
            "jax.jit are measured as a whole anyway"
        ) from None
    return axes


def _all_sum(value: Any, axes: tuple[str, ...]) -> Any:
    return jax.lax.psum(value, axes) if axes else value  # type: ignore[no-untyped-call]


def _count(clouds: Sequence[Array], masks: Sequence[Array | None], axes: tuple[str, ...]) -> Any:
    """Give m; without masks a float, since JAX would hold the square of an int in 32 bits."""
    dtype = _compute_dtype(clouds[0])
    known = sum(len(cloud) for cloud, mask in zip(clouds, masks, strict=True) if mask is None)
    masked = [mask.sum(dtype=dtype) for mask in masks if mask is not None]
    if not masked:
        return float(_all_sum(known, axes))
    return _all_sum(sum(masked, jnp.asarray(known, dtype)), axes)


def _product(a: Array, b: Array) -> Array:
    # The default on accelerators rounds float32 to TF32 or bfloat16 first, which costs all but three digits.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def _symmetric_product(rows: Array, centred: Array) -> Array:
    """Give centredᵀ·centred, differentiated through `rows`, the points before centring.

    Centring adds no term of its own, since over all clouds and devices the centred points sum to zero.
    """
    return _product(centred.T, centred)


@_symmetric_product.defjvp
def _symmetric_product_tangent(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    half = _product(tangents[0].T, primals[1])
    return _symmetric_product(*primals), half + half.T


@jax.custom_jvp
def _quadratic_form(rows: Array, matrix: Array, mapped: Array) -> Array:
    """Give Σ xᵢᵀMxᵢ for a symmetric M and the product X·M, so that this one serves value and gradient."""
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


def _anchor(clouds: Sequence[Array], masks: Sequence[Array | None], axes: tuple[str, ...]) -> Array:
    """Give a point, (1, d), without gradient: the largest coordinates of the clouds' and devices' first points.

    Differences from it are exactly zero for identical points and exact for close ones, so that a mean far from zero
    costs no digits and a cloud without spread has exactly zero scatter.
    """
    anchor = jnp.full((1, clouds[0].shape[1]), -jnp.inf, _compute_dtype(clouds[0]))
    for cloud, keep in zip(clouds, masks, strict=True):
        if not len(cloud):
            continue
        cloud = jax.lax.stop_gradient(cloud)
        row = cloud[:1].astype(anchor.dtype)
        if keep is not None:
            # A sum, since XLA gathers a whole sharded array to look up a row whose number it does not know.
            first = keep & (jnp.arange(len(keep)) == keep.argmax())
            row = jnp.where(first[:, None], cloud, 0).sum(0, keepdims=True, dtype=anchor.dtype)
            row = jnp.where(keep.any(), row, -jnp.inf)
        anchor = jnp.maximum(anchor, row)
    if axes:
        anchor = jax.lax.pmax(anchor, axes)  # type: ignore[no-untyped-call]
    return jnp.where(anchor > -jnp.inf, anchor, 0)


def _shifted(cloud: Array, keep: Array | None, anchor: Array) -> Array:
    rows = cloud.astype(anchor.dtype)
    return (rows if keep is None else jnp.where(keep[:, None], rows, anchor)) - anchor


def _centred(rows: Array, keep: Array | None, mean: Array) -> Array:
    return rows - mean if keep is None else jnp.where(keep[:, None], rows - mean, 0)


def _diagonal(matrix: Array) -> Array:
    # A slice, since for jnp.trace XLA makes a copy of the matrix with zeros beside the diagonal.
    return matrix.reshape(-1)[:: len(matrix) + 1]


def _scale(total: Array, target: Array | None, dim: int) -> Array:
    scale = jax.lax.stop_gradient(total if target is None else total + _diagonal(target).sum()) / dim
    return jnp.where(scale == 0, 1, scale)


@partial(jax.jit, static_argnames="fourth_order")
def _gram_form(
    clouds: list[Array], masks: list[Array | None], target: Array | None, *, fourth_order: bool
) -> Invariants:
    count, anchor = _count(clouds, masks, ()), _anchor(clouds, masks, ())
    rows = jnp.concatenate([_shifted(cloud, keep, anchor) for cloud, keep in zip(clouds, masks, strict=True)])
    kept = [jnp.ones(len(c), bool) if keep is None else keep for c, keep in zip(clouds, masks, strict=True)]
    keep = None if all(mask is None for mask in masks) else jnp.concatenate(kept)
    centred = _centred(rows, keep, rows.sum(0, keepdims=True) / jnp.maximum(count, 1))
    freedom = jnp.maximum(count - 1, 1)
    scale = _scale((centred * centred).sum() / freedom, target, centred.shape[1])
    unit = centred / jnp.sqrt(scale)
    gram = _symmetric_product(unit.T, unit.T)
    squared_norms = _diagonal(gram)
    return _with_target(
        target,
        count=count,
        scale=scale,
        t=squared_norms.sum() / freedom,
        f=(gram * gram).sum() / (freedom * freedom),
        q=(squared_norms * squared_norms).sum() / freedom if fourth_order else None,
        cross=None if target is None else _quadratic_form(unit, target, _product(unit, target)) / (freedom * scale),
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
    count, anchor = _count(clouds, masks, axes), _anchor(clouds, masks, axes)
    rows = [_shifted(cloud, keep, anchor) for cloud, keep in zip(clouds, masks, strict=True)]
    sums = [(part.sum(0, keepdims=True), jax.lax.stop_gradient(part * part).sum()) for part in rows]
    offset, squares = _all_sum(tuple(map(sum, zip(*sums, strict=True))), axes)
    mean = offset / jnp.maximum(count, 1)
    # In units of about √σ, since products of large points, and the gradients for them, leave the range of float32.
    root = jnp.sqrt(jnp.where(squares == 0, 1, squares) / (jnp.maximum(count, 1) * anchor.shape[1]))
    centred = [_centred(part, keep, mean) / root for part, keep in zip(rows, masks, strict=True)]
    freedom = jnp.maximum(count - 1, 1)
    products = [_symmetric_product(part / root, c) for part, c in zip(rows, centred, strict=True)]
    cov = _all_sum(sum(products), axes) / freedom
    scale = _scale(_diagonal(cov).sum() * (root * root), target, anchor.shape[1])
    cov = cov * (root * root / scale)
    q = None
    if fourth_order:
        norms = [(c * c).sum(1) * (root * root / scale) for c in centred]
        q = _all_sum(sum((n * n).sum() for n in norms), axes) / freedom
    cross = None if target is None else (cov * (target / scale)).sum()
    return _with_target(target, count=count, scale=scale, t=_diagonal(cov).sum(), f=(cov * cov).sum(), q=q, cross=cross)


def _with_target(target: Array | None, *, scale: Array, **sample: Any) -> Invariants:
    if target is None:
        return Invariants(scale=scale, **sample)
    scaled = target / scale
    return Invariants(scale=scale, t0=_diagonal(target).sum() / scale, f0=(scaled * scaled).sum(), **sample)


BACKEND = JaxBackend()
