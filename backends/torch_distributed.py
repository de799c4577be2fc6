"""The union over the ranks of a distributed torch run: all-reduces of moments, never of points.

Forward, three sums go round: a common anchor (d numbers), count and offset from it (d + 1), and the centred scatter
(d²); with the fourth order also z and Q (d + 1). Backward, the four gradients of the invariants are enough, since each
rank knows the global mean and covariance: all else is its own points' part.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isoscore_star import _formulas
from isoscore_star._errors import InvalidTypeError, InvalidValueError
from isoscore_star._protocol import Invariants
from isoscore_star.backends.torch_blocks import Block, row_blocks, rows_of_clouds
from isoscore_star.backends.torch_points import (
    at_least,
    centred_rows,
    count_points,
    first_point,
    scale_of,
    symmetric_products,
    with_target,
    without_autocast,
)


def initialised() -> bool:
    """Tell whether this process is a rank of a distributed run."""
    return dist.is_available() and dist.is_initialized()


def process_group(across: Any) -> Any:
    """Check `across` and give the process group that it means: None, as torch takes it, for all ranks.

    A graph that kept the default group itself would keep its threads alive beyond `destroy_process_group`, and gloo
    aborts a process that ends with those.
    """
    if isinstance(across, str) and across == "world":
        if not initialised():
            raise InvalidValueError(
                'across: "world" means all ranks of a distributed run, but torch.distributed is not initialised. Start '
                "by torchrun (or accelerate, or Lightning) and call torch.distributed.init_process_group() first, or "
                "leave across out in a single process"
            )
        return None
    if dist.is_available() and isinstance(across, dist.ProcessGroup):
        return across
    allowed = 'across: expected "world" or a torch.distributed.ProcessGroup of which this rank is a member'
    if isinstance(across, str):
        raise InvalidValueError(f"{allowed}; got {across!r}")
    raise InvalidTypeError(f"{allowed}; got {type(across).__name__}. Of a DeviceMesh give mesh.get_group()")


def all_sum(tensor: Tensor, group: Any) -> Tensor:
    """Sum a contiguous tensor over the ranks, in place."""
    dist.all_reduce(tensor, dist.ReduceOp.SUM, group)
    return tensor


def all_max(tensor: Tensor, group: Any) -> Tensor:
    """Take the maximum of a contiguous tensor over the ranks, entry by entry, in place."""
    dist.all_reduce(tensor, dist.ReduceOp.MAX, group)
    return tensor


def common_anchor(own: Tensor, count: Any, group: Any) -> Tensor:
    """Give the largest coordinates of the ranks' own anchors; ranks that count no point have no say.

    Where all points are identical it is that point, so that differences from it are exactly zero.
    """
    some = torch.as_tensor(count > 0, device=own.device)
    anchor = all_max(torch.where(some, own, -torch.inf), group)
    return torch.where(anchor > -torch.inf, anchor, 0)


def scatter_form_across(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None], target: Tensor | None, fourth_order: bool, across: Any
) -> Invariants:
    """Compute the invariants of the union of the clouds of all ranks."""
    group = process_group(across)
    count, scale, t, f, q, cross = _ScatterAcross.apply(  # type: ignore[no-untyped-call]
        target, group, fourth_order, len(clouds), *clouds, *masks
    )
    return with_target(count, scale, t, f, q if fourth_order else None, cross, target)


class _ScatterAcross(torch.autograd.Function):
    """Invariants of S/σ from the points of all ranks; each rank's gradient is that of the sum of all ranks' losses."""

    @staticmethod
    def forward(
        ctx: Any, target: Tensor | None, group: Any, fourth_order: bool, clouds_given: int, *arrays: Any
    ) -> tuple[Tensor, ...]:
        clouds, masks = arrays[:clouds_given], arrays[clouds_given:]
        blocks = functools.partial(row_blocks, clouds, masks, whole=torch.compiler.is_compiling())
        anchor = first_point(clouds, masks)
        own_count = count_points(clouds, masks, anchor.dtype)
        anchor = common_anchor(anchor, own_count, group)

        def own_offset(block: Block) -> Tensor:
            return centred_rows(block.rows, block.keep, anchor).sum(0)

        sums = anchor.new_zeros(1 + anchor.shape[1])
        sums[0] = own_count
        for block_offset in map(own_offset, blocks()):
            sums[1:] += block_offset
        count, offset = all_sum(sums, group).tensor_split([1])
        count = count[0].clone()
        freedom = at_least(count - 1, 1)
        mean = anchor[0] + offset / at_least(count, 1)

        def centred_block(block: Block) -> Tensor:
            return centred_rows(block.rows, block.keep, mean)

        dim = len(mean)
        scatter = mean.new_zeros(dim, dim)
        if any(len(cloud) for cloud in clouds):
            scatter = symmetric_products(map(centred_block, blocks()))
        all_sum(scatter, group)
        total = scatter.trace() / freedom
        scale = scale_of(total, target, dim)
        cov = scatter / (freedom * scale)

        fourth = mean.new_zeros(1 + dim)
        if fourth_order:
            for centred in map(centred_block, blocks()):
                squared_norms = centred.square().sum(1) / scale
                fourth[0] += squared_norms.square().sum()
                fourth[1:] += squared_norms @ centred
                del centred
            all_sum(fourth, group)
        cross = mean.new_zeros(()) if target is None else (cov * (target / scale)).sum()

        ctx.group, ctx.fourth_order, ctx.clouds_given = group, fourth_order, clouds_given
        ctx.save_for_backward(target, count, scale, mean, cov, fourth[1:], *arrays)
        ctx.mark_non_differentiable(count, scale)
        return count, scale, total / scale, (cov * cov).sum(), fourth[0] / freedom, cross

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        target, count, scale, mean, cov, z, *arrays = ctx.saved_tensors
        clouds, masks = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        _, _, gt, gf, gq, g_cross = grads
        with torch.no_grad(), without_autocast(mean.device.type):
            summed = all_sum(torch.stack([gt, gf, g_cross, gq]), ctx.group) / scale
            freedom = at_least(count - 1, 1)
            given: list[Any] = list(summed)
            on_points, on_cov, on_target, on_norms = _formulas.point_gradient_factors(freedom + 1, *given)
            weight = cov * on_cov
            if target is not None:
                weight += (target / scale) * on_target
            weight.diagonal().add_(on_points)

            def gradient(rows: Tensor, keep: Tensor | None) -> Tensor:
                centred = centred_rows(rows, keep, mean)
                result: Tensor = centred @ weight
                if ctx.fourth_order:
                    norms = (centred.square().sum(1) / scale)[:, None]
                    result = result + on_norms * (norms * centred - z / at_least(count, 1))
                    result = result if keep is None else torch.where(keep[:, None], result, 0)
                return result

            whole, share = torch.compiler.is_compiling(), 4 if ctx.fourth_order else 2
            blocks = row_blocks(clouds, masks, whole=whole, share=share)
            cloud_grads = rows_of_clouds(clouds, blocks, gradient)
            # Σ_S is each rank's own copy, which the other ranks' losses do not depend on.
            target_grad = (g_cross / scale) * cov if target is not None and ctx.needs_input_grad[0] else None
        if torch.is_grad_enabled():
            sources = (*grads, *(a for a in (target, *clouds) if a is not None))
            cloud_grads = [_OnlyOnce.apply(gradient, *sources) for gradient in cloud_grads]  # type: ignore[no-untyped-call]
        return target_grad, None, None, None, *cloud_grads, *(None for _ in masks)


class _OnlyOnce(torch.autograd.Function):
    """A first derivative that refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise InvalidValueError(
            "across: the score of a union over ranks has first derivatives only. Leave across out where gradients of "
            "gradients are taken (gradient penalties, Hessians)"
        )
