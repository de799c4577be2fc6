"""tr S and ⟨S, Σ_S⟩ with Σ_S held constant, by one product in all: Y = (X − x̄)·Σ_S.

⟨S, Σ_S⟩ = Σ(xᵢ − x̄)·yᵢ/(m − 1), and the gradient is a combination of X − x̄ and Y. No d × d matrix is made, and ranks
exchange d + 1 numbers for the mean and two for the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import in_full_precision, signed
from isoscore_star.backends.torch.blocks import row_blocks
from isoscore_star.backends.torch.frame import Frame, frame_about, known, sums_about
from isoscore_star.backends.torch.low_rank import factors
from isoscore_star.backends.torch.mapped import combined, mapped_sums
from isoscore_star.backends.torch.points import at_least, centred_rows, first_point
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
        sums, mapped = mapped_sums(frame, clouds, masks, target)
        total, cross = (sums / freedom).to(first.dtype)
        mean, divisor = mean_variance(total, first.shape[1], torch.where)
        inverse = frame.inverse
        return (
            mean.sqrt() if inverse is None else mean.sqrt() / inverse,
            total / divisor,
            cross / divisor / target_divisor,
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
            results = combined(clouds, masks, mapped, frame, target, on_points, on_mapped)
        return None, None, None, None, None, *results, *(None for _ in masks)


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
    low = factors(target)
    weight = (target if low is None else low[0] @ low[1] @ low[0].T) * on_mapped
    weight = torch.diagonal_scatter(weight, weight.diagonal() + on_points)
    rows = [frame.centred(cloud, keep) for cloud, keep in zip(clouds, masks, strict=True)]
    # The frame is constant; the rest of the mean, zero in value, moves with the points.
    rest: Any = sum(part.sum(0) for part in rows) / at_least(count, 1)
    return [
        (centred_rows(part, keep, rest) @ weight).to(cloud.dtype)
        for part, keep, cloud in zip(rows, masks, clouds, strict=True)
    ]
