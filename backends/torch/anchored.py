"""tr S and ⟨S, Σ_S⟩ with Σ_S held constant, by one product in all: Y = (X − x̄)·Σ_S.

⟨S, Σ_S⟩ = Σ(xᵢ − x̄)·yᵢ/(m − 1), and the gradient is a combination of X − x̄ and Y. No d × d matrix is made, and ranks
exchange d + 1 numbers for the mean and two for the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import in_full_precision, signed, transformed
from isoscore_star.backends.torch.blocks import row_blocks, step_of
from isoscore_star.backends.torch.frame import Frame, frame_about, known, sums_about
from isoscore_star.backends.torch.points import at_least, centred_rows, first_point, widest
from isoscore_star.core.scaling import mean_variance


@signed
class Anchored(torch.autograd.Function):
    """s, T and C of points; T and C carry gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        target: Tensor, target_divisor: float, count: Any, _: None, clouds_given: int, *arrays: Any
    ) -> tuple[Tensor, ...]:
        clouds, masks = arrays[:clouds_given], arrays[clouds_given:]
        whole = torch.compiler.is_compiling()
        first, freedom = first_point(clouds, masks), at_least(count - 1, 1)
        frame = frame_about(first, *sums_about(first, row_blocks(clouds, masks, whole=whole)), count)
        total = cross = first.new_zeros((), dtype=widest(first.device))
        mapped = []
        for cloud, keep in zip(clouds, masks, strict=True):

            def product(part: slice, cloud: Tensor = cloud, keep: Tensor | None = keep) -> Tensor:
                nonlocal total, cross
                centred = frame.centred(cloud[part], None if keep is None else keep[part])
                result = centred @ target
                total, cross = total + centred.square().sum(), cross + (centred * result).sum()
                return result

            mapped.append(_rows(cloud, first.dtype, product))
        mean, divisor = mean_variance((total / freedom).to(first.dtype), first.shape[1], torch.where)
        inverse = frame.inverse
        return (
            mean.sqrt() if inverse is None else mean.sqrt() / inverse,
            (total / freedom).to(first.dtype) / divisor,
            (cross / freedom).to(first.dtype) / divisor / target_divisor,
            divisor,
            frame.anchor,
            frame.rest,
            first.new_ones(()) if inverse is None else inverse,
            *mapped,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        target, ctx.target_divisor, count, _, ctx.clouds_given, *arrays = inputs
        unit, _, _, *kept = output
        ctx.count = None if isinstance(count, Tensor) else count
        ctx.mark_non_differentiable(unit, *kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(count if ctx.count is None else None, target, *kept, *arrays)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        count, target, divisor, anchor, rest, inverse, *arrays = ctx.saved_tensors
        mapped, arrays = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        clouds, masks = arrays[: ctx.clouds_given], arrays[ctx.clouds_given :]
        count = ctx.count if count is None else count
        frame = Frame(anchor, rest, known(inverse))
        per_point = 2 / (at_least(count - 1, 1) * divisor) * (1 if frame.inverse is None else inverse)
        zero = torch.zeros_like(divisor)
        on_points = zero if grads[1] is None else grads[1] * per_point
        on_mapped = zero if grads[2] is None else grads[2] * per_point / ctx.target_divisor
        if torch.is_grad_enabled():
            results = _differentiable(clouds, masks, frame, count, target, on_points, on_mapped)
        else:
            results = []
            for cloud, keep, its in zip(clouds, masks, mapped, strict=True):

                def combined(
                    part: slice, cloud: Tensor = cloud, keep: Tensor | None = keep, its: Tensor = its
                ) -> Tensor:
                    centred = frame.centred(cloud[part], None if keep is None else keep[part])
                    return torch.addcmul(its[part] * on_mapped, centred, on_points)

                results.append(_rows(cloud, cloud.dtype, combined))
        return None, None, None, None, None, *results, *(None for _ in masks)


def _rows(cloud: Tensor, dtype: torch.dtype, compute: Callable[[slice], Tensor]) -> Tensor:
    """Compute rows, in blocks that stay in a cache."""
    step = step_of(cloud)
    if torch.compiler.is_compiling() or transformed() or len(cloud) <= step:
        return compute(slice(None)).to(dtype)
    result = cloud.new_empty(cloud.shape, dtype=dtype)
    for start in range(0, len(cloud), step):
        part = slice(start, start + step)
        result[part] = compute(part)
    return result


def _differentiable(
    clouds: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    frame: Frame,
    count: Any,
    target: Tensor,
    on_points: Tensor,
    on_mapped: Tensor,
) -> list[Tensor]:
    """Return the same as a function of the points, for derivatives of higher order."""
    weight = target * on_mapped
    weight = torch.diagonal_scatter(weight, weight.diagonal() + on_points)
    rows = [frame.centred(cloud, keep) for cloud, keep in zip(clouds, masks, strict=True)]
    # The frame is constant; the rest of the mean, zero in value, moves with the points.
    rest: Any = sum(part.sum(0) for part in rows) / at_least(count, 1)
    return [
        (centred_rows(part, keep, rest) @ weight).to(cloud.dtype)
        for part, keep, cloud in zip(rows, masks, clouds, strict=True)
    ]
