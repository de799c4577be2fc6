"""The Gram form, for fewer points than dimensions: the m × m matrix of inner products.

Either form takes one product forward and one backward; the backward passes are differentiable, as auxiliary outputs
(points, mean, covariance, ...) carry gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import in_full_precision, signed
from isoscore_star.backends.torch.blocks import all_kept, put_together
from isoscore_star.backends.torch.frame import inverse_unit, known_to_be_usual, largest_entry
from isoscore_star.backends.torch.points import at_least, centred_rows, first_point, on_cpu
from isoscore_star.core import formulas
from isoscore_star.core.scaling import mean_variance


@signed
class Gram(torch.autograd.Function):
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
    @in_full_precision
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
