"""The scatter form: XᵀX, d × d, by blocks of rows, so that no centred or converted copy is larger than a block."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import in_full_precision, signed
from isoscore_star.backends.torch.blocks import Block, row_blocks, rows_of_clouds
from isoscore_star.backends.torch.frame import Frame, frame_about, known, sums_about
from isoscore_star.backends.torch.points import at_least, first_point, squared_lengths, squared_norm, symmetric_products
from isoscore_star.core import formulas
from isoscore_star.core.scaling import mean_variance


@signed
class Scatter(torch.autograd.Function):
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
    @in_full_precision
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
