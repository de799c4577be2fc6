"""PyTorch: closed-form gradients of any order, on every device, compiled or not.

With at least as many points as dimensions they are multiplied in the scatter form: XᵀX, d × d, by blocks of rows, so
that centred or converted copies are never larger than a block. With fewer it is the Gram form: the m × m matrix of
inner products. Either takes one product forward and one backward; the backward passes are differentiable, as auxiliary
outputs (mean, covariance, ...) carry gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoscore_star.backends.torch._compat import concrete, signed, surely_fewer, transformed, without_autocast
from isoscore_star.backends.torch.blocks import Block, all_kept, put_together, row_blocks, rows_of_clouds
from isoscore_star.backends.torch.distributed import scatter_form_across
from isoscore_star.backends.torch.frame import (
    Frame,
    frame_about,
    inverse_unit,
    known,
    known_to_be_usual,
    largest_entry,
    sums_about,
)
from isoscore_star.backends.torch.points import (
    at_least,
    centred_rows,
    compute_dtype,
    count_points,
    first_point,
    on_cpu,
    product_dtype,
    squared_lengths,
    squared_norm,
    symmetric_products,
)
from isoscore_star.backends.torch.score import score_in_one_step
from isoscore_star.backends.torch.target import target_of
from isoscore_star.core import formulas
from isoscore_star.core.errors import InvalidTypeError
from isoscore_star.core.protocol import Backend, Invariants
from isoscore_star.core.scaling import Target, mean_variance, sums_in_unit, with_target


class TorchBackend(Backend):
    """Computes float64 and integers in float64, all other dtypes in float32, their products for small d in float64."""

    name = "torch"

    def owns(self, array: object) -> bool:
        return isinstance(array, Tensor)

    def dtype_name(self, array: Tensor) -> str:
        """Name the dtype."""
        return str(array.dtype).removeprefix("torch.")

    def accept(self, name: str, array: Tensor) -> Tensor:
        """Refuse sparse layouts."""
        if array.layout is not torch.strided:
            raise InvalidTypeError(
                name, f"expected a dense array; got one of layout {array.layout}. Give {name}.to_dense()"
            )
        return array

    def points(self, array: Tensor) -> Tensor:
        """Flatten to (m, d); half precision is converted later, block by block."""
        flat = array.reshape(-1, array.shape[-1])
        return flat if flat.is_floating_point() else flat.to(compute_dtype(flat))

    def mask(self, mask: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(mask, device=like.device).reshape(-1) != 0

    def constant(self, array: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(array).to(device=like.device, dtype=compute_dtype(like))

    def invariants(
        self,
        clouds: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        shrinkage_cov: Tensor | None,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute by the form with the smaller product; across ranks by the scatter form, whose parts add up."""
        rows, dim = sum(len(cloud) for cloud in clouds), clouds[0].shape[1]
        if torch.compiler.is_compiling():  # torch.compile takes no tensor twice, not even one mask of two layers
            masks = [None if mask is None else mask.view_as(mask) for mask in masks]
        with without_autocast(clouds[0].device.type):
            target = target_of(shrinkage_cov, product_dtype(clouds[0]))
            if across is not None:
                count, *computed = scatter_form_across(clouds, masks, target, fourth_order, across)
            else:
                count = count_points(clouds, masks, product_dtype(clouds[0]))
                computed = _apply(
                    _Gram if surely_fewer(rows, dim) else _Scatter, target, clouds, masks, count, fourth_order
                )
            unit, t, f, q, cross, *_ = computed
            invariants = Invariants(count, unit, t, f, q if fourth_order else None, precision=torch.finfo(t.dtype).eps)
            return invariants if target is None else with_target(invariants, target, cross)

    def covariance_sums(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        variances = cov.diagonal() if cov.ndim == 2 else cov
        return sums_in_unit(variances, cov, torch.sum, self.where, torch.Tensor.detach)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return torch.where(condition, a, b)

    def score(self, invariants: Invariants, zeta: Any, dim: int) -> Any:
        return score_in_one_step(invariants, zeta, dim)

    def concrete(self, scalar: Any) -> float | None:
        return concrete(scalar)

    def to_numpy(self, array: Tensor) -> NDArray[Any]:
        """Copy to the host, bfloat16 as float32."""
        array = array.detach()
        if transformed():  # tensors inside torch.func's transformations have no memory to share
            return np.asarray(array.tolist()).reshape(array.shape)
        return np.asarray((array.float() if array.dtype == torch.bfloat16 else array).cpu().numpy())


def _in_full_precision(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Switch autocast off in a backward pass, where it may differ from the forward pass."""

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Any) -> Any:
        # The device of a gradient, since a checkpoint allows only one access to saved tensors.
        devices = [grad.device.type for grad in grads if grad is not None]
        with without_autocast(devices[0] if devices else "cpu"):
            return backward(ctx, *grads)

    return run


def _apply(
    form: type[torch.autograd.Function],
    target: Target | None,
    clouds: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    count: Any,
    fourth_order: bool,
) -> Any:
    matrix, divisor = (None, 1.0) if target is None else (target.matrix, target.divisor)
    # torch.compile cannot trace an apply of variable length without gradients.
    tracked = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in (matrix, *clouds))
    run: Any = form.apply if tracked else form.forward
    return run(matrix, divisor, count, fourth_order, len(clouds), *clouds, *masks)


@signed
class _Gram(torch.autograd.Function):
    """Invariants from inner products; centred points in units of s, these products and X·Σ_S carry gradients too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        target: Tensor | None, target_divisor: float, count: Any, fourth_order: bool, clouds_given: int, *arrays: Any
    ) -> tuple[Tensor, ...]:
        clouds, masks = arrays[:clouds_given], arrays[clouds_given:]
        anchor, freedom = first_point(clouds, masks), at_least(count - 1, 1)
        keep = all_kept(clouds, masks)
        shifted = put_together([centred_rows(cloud, mask, anchor) for cloud, mask in zip(clouds, masks, strict=True)])
        centred = centred_rows(shifted, keep, shifted.sum(0) / at_least(count, 1))
        squares, inverse = (centred * centred).sum() if on_cpu(centred) else None, None
        if squares is None or not known_to_be_usual(squares):
            inverse = inverse_unit(largest_entry(shifted)) if len(shifted) else None
            if inverse is not None:  # before the mean, which would lose subnormal numbers
                shifted = shifted * inverse
                centred = centred_rows(shifted, keep, shifted.sum(0) / at_least(count, 1))
            squares = (centred * centred).sum()
        mean, divisor = mean_variance(squares / freedom, centred.shape[1], torch.where)
        unit, per_unit = mean.sqrt(), divisor.rsqrt()
        points = centred * per_unit
        gram = points @ points.T
        squared_norms = gram.diagonal()
        mapped = points.new_zeros(()) if target is None else (target @ points.T).T.contiguous() / target_divisor
        cross = (mapped * points).sum() / freedom
        q = (squared_norms * squared_norms).sum() / freedom if fourth_order else points.new_zeros(())
        return (
            unit if inverse is None else unit / inverse,
            gram.trace() / freedom,
            (gram * gram).sum() / (freedom * freedom),
            q,
            cross,
            points,
            gram,
            mapped,
            per_unit if inverse is None else per_unit * inverse,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        target, ctx.target_divisor, count, _, ctx.clouds_given, *arrays = inputs
        unit, _, _, _, _, points, gram, mapped, per_unit = output
        ctx.count = None if isinstance(count, Tensor) else count
        ctx.mark_non_differentiable(unit, per_unit)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(count if ctx.count is None else None, per_unit, target, points, gram, mapped, *arrays)

    @staticmethod
    @_in_full_precision
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        _, gt, gf, gq, g_cross, g_points, g_gram, g_mapped, _ = grads
        count, per_unit, target, points, gram, mapped, *arrays = ctx.saved_tensors
        count = ctx.count if count is None else count
        clouds, masks = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        freedom = at_least(count - 1, 1)
        slopes: list[Any] = [0.0 if g is None else g for g in (gt, gf, g_cross, gq)]
        on_points, on_cov, on_target, on_norms = formulas.point_gradient_factors(freedom + 1, *slopes)

        on_gram = gram * (on_cov / freedom)
        if g_gram is not None:
            on_gram = on_gram + g_gram + g_gram.T
        # Not gram.diagonal(): inductor (torch 2.13) compiles a wrong gradient from that view of a saved output.
        factor = on_points if gq is None else on_points + on_norms * (points * points).sum(1)[:, None]
        result = torch.addmm(points * factor, on_gram, points)
        if target is not None and g_cross is not None:
            result = result + mapped * on_target
        if target is not None and g_mapped is not None:
            result = result + (g_mapped @ target.T) / ctx.target_divisor
        if g_points is not None:
            result = result + g_points
        if not (gq is None and g_points is None and g_gram is None and g_mapped is None):
            # Only these terms have columns that do not sum to zero.
            keep = all_kept(clouds, masks)
            result = centred_rows(result, keep, centred_rows(result, keep, 0).sum(0) / at_least(count, 1))
        result = result * per_unit

        target_grad = None
        if target is not None and ctx.needs_input_grad[0]:
            outer = torch.zeros_like(points) if g_cross is None else points * (g_cross / freedom)
            target_grad = points.T @ ((outer if g_mapped is None else outer + g_mapped) / ctx.target_divisor)
        parts = result.split([len(cloud) for cloud in clouds])
        cloud_grads = [part.to(cloud.dtype) for part, cloud in zip(parts, clouds, strict=True)]
        return target_grad, None, None, None, None, *cloud_grads, *(None for _ in masks)


@signed
class _Scatter(torch.autograd.Function):
    """Invariants from S/s² of the points in a frame; the rest of the mean, S/s² and z carry gradients too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        target: Tensor | None, target_divisor: float, count: Any, fourth_order: bool, clouds_given: int, *arrays: Any
    ) -> tuple[Tensor, ...]:
        clouds, masks = arrays[:clouds_given], arrays[clouds_given:]
        blocks = functools.partial(row_blocks, clouds, masks, whole=torch.compiler.is_compiling())
        first, freedom = first_point(clouds, masks), at_least(count - 1, 1)
        frame = frame_about(first, *sums_about(first, blocks()), count)

        def centred_block(block: Block) -> Tensor:
            return frame.centred(block.rows, block.keep)

        cov = symmetric_products(map(centred_block, blocks()))
        # Before the last operation: compiled by torch 2.11, an output loses its gradient in a conversion to its dtype.
        cov = cov.to(first.dtype)
        total = cov.trace() / freedom
        mean, divisor = mean_variance(total, len(cov), torch.where)
        cov = cov / (freedom * divisor)
        unit, t = mean.sqrt(), total / divisor
        q, z = first.new_zeros(()), torch.zeros_like(frame.rest)
        if fourth_order:
            for centred in map(centred_block, blocks()):
                squared_norms = squared_lengths(centred) / divisor
                q = q + squared_norms.square().sum()
                z = z + squared_norms @ centred
                del centred
            q = q / freedom
        cross = first.new_zeros(()) if target is None else (cov * target).sum() / target_divisor
        inverse = frame.inverse
        return (
            unit if inverse is None else unit / inverse,
            t,
            squared_norm(cov),
            q,
            cross,
            frame.rest,
            cov,
            z,
            divisor,
            frame.anchor,
            first.new_ones(()) if inverse is None else inverse,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        target, ctx.target_divisor, count, ctx.fourth_order, ctx.clouds_given, *arrays = inputs
        unit, t, _, _, _, *kept = output
        ctx.count = None if isinstance(count, Tensor) else count
        ctx.mark_non_differentiable(unit, *kept[3:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(count if ctx.count is None else None, target, t, *kept, *arrays)

    @staticmethod
    @_in_full_precision
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        _, gt, gf, gq, g_cross, g_rest, g_cov, g_z, *_ = grads
        count, target, t, rest, cov, z, divisor, anchor, inverse, *arrays = ctx.saved_tensors
        count = ctx.count if count is None else count
        clouds, masks = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        freedom = at_least(count - 1, 1)
        target_grad = None
        if g_cross is not None and ctx.needs_input_grad[0]:
            target_grad = (g_cross / ctx.target_divisor) * cov
        frame = Frame(anchor, rest, known(inverse))
        if frame.inverse is not None:  # points are in units, their gradients in its inverse
            scaled = [None if g is None else g * inverse for g in (gt, gf, gq, g_cross, g_rest, g_cov, g_z)]
            gt, gf, gq, g_cross, g_rest, g_cov, g_z = scaled
        slopes: list[Any] = [0.0 if g is None else g / divisor for g in (gt, gf, g_cross, gq)]
        on_points, on_cov, on_target, on_norms = formulas.point_gradient_factors(freedom + 1, *slopes)

        # At most three d × d matrices at a time.
        weight: Tensor = cov * on_cov
        if g_cross is not None and target is not None:
            weight = torch.addcmul(weight, target, torch.as_tensor(on_target / ctx.target_divisor))
        if g_cov is not None:
            weight = weight + (g_cov + g_cov.T) / (freedom * divisor)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            weight = torch.diagonal_scatter(weight, weight.diagonal() + on_points)
        else:
            weight.diagonal().add_(on_points)

        def gradient(rows: Tensor, keep: Tensor | None) -> Tensor:
            centred = frame.centred(rows, keep)
            if gq is None and g_rest is None and g_z is None:
                return (centred @ weight).to(rows.dtype)
            norms = (squared_lengths(centred) / divisor)[:, None]
            if gq is None:
                result = centred @ weight
            else:
                constant: Any = -on_norms * z / at_least(count, 1)
                result = torch.addcmul(torch.addmm(constant, centred, weight), norms * on_norms, centred)
            if g_rest is not None:
                result = result + g_rest / at_least(count, 1)
            if g_z is not None:
                column_mean = (freedom / at_least(count, 1)) * (2 * (cov @ g_z) + t * g_z)
                result = result + (2 / divisor) * (centred @ g_z)[:, None] * centred + norms * g_z - column_mean
            return (result if keep is None else torch.where(keep[:, None], result, 0)).to(rows.dtype)

        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            cloud_grads = [gradient(cloud, keep) for cloud, keep in zip(clouds, masks, strict=True)]
        else:
            blocks = row_blocks(clouds, masks, whole=False, n_parts=2 if gq is None else 4)
            cloud_grads = rows_of_clouds(clouds, blocks, gradient)
        return target_grad, None, None, None, None, *cloud_grads, *(None for _ in masks)


BACKEND = TorchBackend()
