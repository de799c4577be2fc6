"""The union over the ranks of a distributed torch run, by all-reduces of moments.

Forward these are a common anchor and the reach from it (2d + 1 numbers), count and offset from it (d + 1), the centred
scatter (d²) and, with the fourth order, z and Q (d + 1). Backward they are the four gradients of the invariants, since
each rank knows the global mean and covariance.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from isoscore_star.backends.torch._compat import without_autocast
from isoscore_star.backends.torch.blocks import Block, row_blocks, rows_of_clouds
from isoscore_star.backends.torch.frame import Frame, frame_about, inverse_unit, sums_about
from isoscore_star.backends.torch.mapped import combined, mapped_sums
from isoscore_star.backends.torch.points import at_least, count_points, first_point, symmetric_products
from isoscore_star.core import formulas
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.protocol import Pair
from isoscore_star.core.scaling import Target, mean_variance


def initialised() -> bool:
    """Return whether torch.distributed is initialised."""
    return dist.is_available() and dist.is_initialized()


def process_group(across: Any) -> Any:
    """Check `across` and return its process group, None for all ranks.

    A graph that holds the default group itself keeps its threads alive after `destroy_process_group`, with which gloo
    aborts the process at its end.
    """
    if isinstance(across, str) and across == "world":
        if not initialised():
            raise InvalidValueError(
                "across",
                '"world" means all ranks of a distributed run, but torch.distributed is not initialised. Start '
                "by torchrun (or accelerate, or Lightning) and call torch.distributed.init_process_group() first, or "
                "leave across out in a single process",
            )
        return None
    if dist.is_available() and isinstance(across, dist.ProcessGroup):
        return across
    allowed = 'expected "world" or a torch.distributed.ProcessGroup of which this rank is a member'
    if isinstance(across, str):
        raise InvalidValueError("across", f"{allowed}; got {across!r}")
    raise InvalidTypeError("across", f"{allowed}; got {type(across).__name__}. Of a DeviceMesh give mesh.get_group()")


def place_of(across: Any) -> tuple[int, int]:
    """Return the number of this rank and the number of ranks."""
    group = process_group(across)
    return dist.get_rank(group), dist.get_world_size(group)


def all_sum(tensor: Tensor, group: Any) -> Tensor:
    """Sum a contiguous tensor over the ranks, in place."""
    dist.all_reduce(tensor, dist.ReduceOp.SUM, group)
    return tensor


def common_anchor(own: Tensor, count: Any, reach: Tensor, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest coordinates of the anchors of ranks with points, their largest difference and reach."""
    some = torch.as_tensor(count > 0, device=own.device)
    ends = torch.where(some, torch.stack([own, -own]), -torch.inf)
    largest = torch.cat([ends.reshape(-1), reach])
    dist.all_reduce(largest, dist.ReduceOp.MAX, group)
    anchor, opposite, reach = largest.tensor_split([len(own), 2 * len(own)])
    any_point = anchor > -torch.inf
    apart = torch.where(any_point, anchor + opposite, 0).amax()
    return torch.where(any_point, anchor, 0), apart, reach


def scatter_form_across(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None], target: Target | None, fourth_order: bool, across: Any
) -> tuple[Tensor, ...]:
    """Compute m, s, T, F, Q and C of the union of the clouds of all ranks."""
    group = process_group(across)
    matrix, divisor = (None, 1.0) if target is None else (target.matrix, target.divisor)
    computed: tuple[Tensor, ...] = _ScatterAcross.apply(  # type: ignore[no-untyped-call]
        matrix, divisor, group, fourth_order, len(clouds), *clouds, *masks
    )
    return computed


class _ScatterAcross(torch.autograd.Function):
    """Invariants of S/s² from the points of all ranks; each rank's gradient is that of the sum of all ranks' losses."""

    @staticmethod
    def forward(
        ctx: Any,
        target: Tensor | None,
        target_divisor: float,
        group: Any,
        fourth_order: bool,
        clouds_given: int,
        *arrays: Any,
    ) -> tuple[Tensor, ...]:
        clouds, masks = arrays[:clouds_given], arrays[clouds_given:]
        cloud = cloud_across(clouds, masks, group)
        count, frame, cov, divisor = cloud.count, cloud.frame, cloud.cov, cloud.divisor
        freedom = at_least(count - 1, 1)
        fourth = cov.new_zeros(1 + len(cov))
        if fourth_order:
            for block in row_blocks(clouds, masks, whole=torch.compiler.is_compiling()):
                centred = frame.centred(block.rows, block.keep)
                squared_norms = centred.square().sum(1) / divisor
                fourth[0] += squared_norms.square().sum()
                fourth[1:] += squared_norms @ centred
                del centred, block
            all_sum(fourth, group)
        cross = cov.new_zeros(()) if target is None else (cov * target).sum() / target_divisor

        ctx.group, ctx.target_divisor = group, target_divisor
        ctx.fourth_order, ctx.clouds_given = fourth_order, clouds_given
        ctx.save_for_backward(target, count, divisor, *frame, cov, fourth[1:], *arrays)
        ctx.mark_non_differentiable(count, cloud.unit)
        return count, cloud.unit, cloud.total, (cov * cov).sum(), fourth[0] / freedom, cross

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        target, count, divisor, anchor, rest, inverse, cov, z, *arrays = ctx.saved_tensors
        clouds, masks = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        frame = Frame(anchor, rest, inverse)
        _, _, gt, gf, gq, g_cross = grads
        with torch.no_grad(), without_autocast(divisor.device.type):
            summed = all_sum(torch.stack([gt, gf, g_cross, gq]), ctx.group) / divisor
            if inverse is not None:  # points are in units, their gradients in its inverse
                summed = summed * inverse
            freedom = at_least(count - 1, 1)
            slopes: list[Any] = list(summed)
            on_points, on_cov, on_target, on_norms = formulas.point_gradient_factors(freedom + 1, *slopes)
            weight = cov * on_cov
            if target is not None:
                weight.addcmul_(target, torch.as_tensor(on_target / ctx.target_divisor))
            weight.diagonal().add_(on_points)

            def gradient(rows: Tensor, keep: Tensor | None) -> Tensor:
                centred = frame.centred(rows, keep)
                result: Tensor = centred @ weight
                if ctx.fourth_order:
                    norms = (centred.square().sum(1) / divisor)[:, None]
                    result = result + on_norms * (norms * centred - z / at_least(count, 1))
                    result = result if keep is None else torch.where(keep[:, None], result, 0)
                return result

            whole, n_parts = torch.compiler.is_compiling(), 4 if ctx.fourth_order else 2
            blocks = row_blocks(clouds, masks, whole=whole, n_parts=n_parts)
            cloud_grads = rows_of_clouds(clouds, blocks, gradient)
            # Other ranks' losses do not depend on this rank's Σ_S.
            target_grad = None
            if target is not None and ctx.needs_input_grad[0]:
                target_grad = (g_cross / ctx.target_divisor) * cov
        cloud_grads = _first_order(cloud_grads, (*grads, *(a for a in (target, *clouds) if a is not None)))
        return target_grad, None, None, None, None, *cloud_grads, *(None for _ in masks)


class _CloudAcross(NamedTuple):
    """Of the points of all ranks: m, the frame, S/s², s, the divisor s² in the frame's unit, and tr S/s²."""

    count: Tensor  # type: ignore[assignment]  # tuples have a method of that name
    frame: Frame
    cov: Tensor
    unit: Tensor
    divisor: Tensor
    total: Tensor


def cloud_across(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], group: Any) -> _CloudAcross:
    """Compute the covariance of the points of all ranks, whose matrix is summed."""
    blocks = functools.partial(row_blocks, clouds, masks, whole=torch.compiler.is_compiling())
    own = first_point(clouds, masks)
    own_count = count_points(clouds, masks, own.dtype)
    own_total, largest = sums_about(own, blocks())
    first, apart, reach = common_anchor(own[0], own_count, largest[None], group)
    wide = own_total.dtype
    own_total = own_total + own_count * (own[0].to(wide) - first)
    sums = all_sum(torch.cat([torch.as_tensor(own_count, dtype=wide, device=own.device)[None], own_total]), group)
    count = sums[0].to(own.dtype)
    freedom = at_least(count - 1, 1)
    frame = frame_about(first[None], sums[1:], reach[0] + apart, count)

    def centred_block(block: Block) -> Tensor:
        return frame.centred(block.rows, block.keep)

    scatter = first.new_zeros(len(first), len(first))
    if any(len(cloud) for cloud in clouds):
        scatter = symmetric_products(map(centred_block, blocks())).to(own.dtype)
    all_sum(scatter, group)
    total = scatter.trace() / freedom
    mean, divisor = mean_variance(total, len(first), torch.where)
    unit = mean.sqrt() if frame.inverse is None else mean.sqrt() / frame.inverse
    return _CloudAcross(count, frame, scatter / (freedom * divisor), unit, divisor, total / divisor)


def pair_across(
    clouds: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    other_clouds: Sequence[Tensor],
    other_masks: Sequence[Tensor | None],
    across: Any,
) -> Pair:
    """Compute tr A, tr B and ⟨A, B⟩ of the halves of the clouds of all ranks."""
    count_a, count_b, unit_a, unit_b, t_a, t_b, inner = _PairAcross.apply(  # type: ignore[no-untyped-call]
        process_group(across), len(clouds), *clouds, *other_clouds, *masks, *other_masks
    )
    return Pair((count_a, count_b), (unit_a, unit_b), t_a, t_b, inner, torch.finfo(t_a.dtype).eps)


class _PairAcross(torch.autograd.Function):
    """The invariants of a pair from the points of all ranks; gradients as in `_ScatterAcross`."""

    @staticmethod
    def forward(ctx: Any, group: Any, of_first: int, *arrays: Any) -> tuple[Tensor, ...]:
        given = len(arrays) // 2
        clouds, masks = arrays[:given], arrays[given:]
        halves = [slice(of_first), slice(of_first, None)]
        a, b = (cloud_across(clouds[half], masks[half], group) for half in halves)
        ctx.group, ctx.halves, ctx.given = group, halves, given
        ctx.save_for_backward(a.count, b.count, a.divisor, b.divisor, *a.frame, *b.frame, a.cov, b.cov, *arrays)
        ctx.mark_non_differentiable(a.count, b.count, a.unit, b.unit)
        return a.count, b.count, a.unit, b.unit, a.total, b.total, (a.cov * b.cov).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        counts, divisors, frames, covs = saved[:2], saved[2:4], (Frame(*saved[4:7]), Frame(*saved[7:10])), saved[10:12]
        clouds, masks = saved[12 : 12 + ctx.given], saved[12 + ctx.given :]
        results: list[Tensor] = []
        with torch.no_grad(), without_autocast(counts[0].device.type):
            gt_a, gt_b, g_inner = all_sum(torch.stack(grads[4:]), ctx.group)
            for half, gt in enumerate((gt_a, gt_b)):
                frame, own = frames[half], ctx.halves[half]
                factor = (1 if frame.inverse is None else frame.inverse) / divisors[half]
                on_points, _, on_other, _ = formulas.point_gradient_factors(
                    at_least(counts[half], 2), gt * factor, 0.0, g_inner * factor, 0.0
                )
                weight = covs[1 - half] * on_other
                weight.diagonal().add_(on_points)

                def gradient(
                    rows: Tensor, keep: Tensor | None, frame: Frame = frame, weight: Tensor = weight
                ) -> Tensor:
                    return frame.centred(rows, keep) @ weight

                blocks = row_blocks(clouds[own], masks[own], whole=torch.compiler.is_compiling())
                results += rows_of_clouds(clouds[own], blocks, gradient)
        results = _first_order(results, (*grads, *clouds))
        return None, None, *results, *(None for _ in masks)


def _first_order(gradients: list[Tensor], sources: Sequence[Tensor]) -> list[Tensor]:
    """Let gradients raise when they are differentiated."""
    if not torch.is_grad_enabled():
        return gradients
    return [_OnlyOnce.apply(gradient, *sources) for gradient in gradients]  # type: ignore[no-untyped-call]


def anchored_across(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None], target: Target, across: Any
) -> tuple[Tensor, ...]:
    """Compute m, s, T and C of the union of the clouds of all ranks, by d + 3 numbers that each sends."""
    computed: tuple[Tensor, ...] = _AnchoredAcross.apply(  # type: ignore[no-untyped-call]
        target.matrix, target.divisor, target.unit, process_group(across), len(clouds), *clouds, *masks
    )
    return computed


class _AnchoredAcross(torch.autograd.Function):
    """The invariants of the anchored loss from the points of all ranks; gradients as in `_ScatterAcross`.

    Lengths are in units of Σ_S's, which all ranks know, so that none has to be exchanged.
    """

    @staticmethod
    def forward(
        ctx: Any,
        target: Tensor,
        target_divisor: float,
        target_unit: Tensor,
        group: Any,
        clouds_given: int,
        *arrays: Any,
    ) -> tuple[Tensor, ...]:
        clouds, masks = arrays[:clouds_given], arrays[clouds_given:]
        own = first_point(clouds, masks)
        own_count = count_points(clouds, masks, own.dtype)
        total, _ = sums_about(own, row_blocks(clouds, masks, whole=torch.compiler.is_compiling()))
        inverse = inverse_unit(target_unit.to(total))
        inverse = torch.ones_like(total[0]) if inverse is None else inverse
        # About zero, which all ranks know: in float64 that costs a mean no digit that counts.
        total = (total + own_count * own[0].to(total)) * inverse
        sums = all_sum(torch.cat([torch.as_tensor(own_count).to(total)[None], total]), group)
        count = sums[0].to(own.dtype)
        mean = sums[1:] / at_least(sums[0], 1) / inverse
        anchor = mean.to(own.dtype)
        unit = inverse.to(own.dtype)
        frame = Frame(anchor, ((mean - anchor) * inverse).to(own.dtype), unit)
        traces, mapped = mapped_sums(frame, clouds, masks, target)
        freedom = at_least(count - 1, 1)
        t, cross = all_sum(traces.to(total), group).to(own.dtype) / freedom
        variance, divisor = mean_variance(t, len(anchor), torch.where)
        ctx.group, ctx.target_divisor, ctx.clouds_given = group, target_divisor, clouds_given
        ctx.save_for_backward(count, divisor, target, *frame, *mapped, *arrays)
        s = variance.sqrt() / unit
        ctx.mark_non_differentiable(count, s)
        return count, s, t / divisor, cross / divisor / target_divisor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        count, divisor, target, anchor, rest, inverse, *arrays = ctx.saved_tensors
        mapped, arrays = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        clouds, masks = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        with torch.no_grad(), without_autocast(divisor.device.type):
            per_point = 2 * inverse / (at_least(count - 1, 1) * divisor)
            on_points, on_mapped = all_sum(torch.stack(grads[2:]), ctx.group) * per_point
            frame = Frame(anchor, rest, inverse)
            results = combined(clouds, masks, mapped, frame, target, on_points, on_mapped / ctx.target_divisor)
        return None, None, None, None, None, *_first_order(results, (*grads, *clouds)), *(None for _ in masks)


class _OnlyOnce(torch.autograd.Function):
    """A first derivative that raises when differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise InvalidValueError(
            "across",
            "the score of a union over ranks has first derivatives only. Leave across out where gradients of "
            "gradients are taken (gradient penalties, Hessians)",
        )
