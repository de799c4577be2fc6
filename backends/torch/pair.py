"""tr A, tr B and ⟨A, B⟩ of the covariances of two halves of points.

With at least as many points as dimensions ⟨A, B⟩ is that of two scatters, each of one product; with fewer in both
halves it is ‖X_A X_Bᵀ‖² of the centred points. Gradients take as many products again, and are differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import in_full_precision, surely_fewer
from isoscore_star.backends.torch.blocks import all_kept, put_together
from isoscore_star.backends.torch.forms import apply
from isoscore_star.backends.torch.frame import inverse_unit, largest_entry
from isoscore_star.backends.torch.points import at_least, centred_rows, count_points, first_point, product_dtype
from isoscore_star.backends.torch.scatter import Scatter
from isoscore_star.core.protocol import Pair
from isoscore_star.core.scaling import Target, mean_variance

Clouds = Sequence[Tensor]
Masks = Sequence["Tensor | None"]


def pair_of(clouds: Clouds, masks: Masks, other_clouds: Clouds, other_masks: Masks) -> Pair:
    """Compute by the form with the smaller products."""
    dim = clouds[0].shape[1]
    rows = [sum(len(cloud) for cloud in half) for half in (clouds, other_clouds)]
    few = all(surely_fewer(number, dim) for number in rows) or any(surely_fewer(number, 1) for number in rows)
    form = _by_inner_products if few else _by_scatters
    return form(clouds, masks, other_clouds, other_masks)


def _by_scatters(clouds: Clouds, masks: Masks, other_clouds: Clouds, other_masks: Masks) -> Pair:
    counts = [count_points(*half, product_dtype(clouds[0])) for half in ((clouds, masks), (other_clouds, other_masks))]
    unit_b, t_b, _, _, _, _, cov, *_ = apply(Scatter, None, other_clouds, other_masks, counts[1], False)
    # B, in units of its own, with its gradient, in the place of Σ_S.
    target = Target(cov, 1.0, unit_b, None, None)
    unit_a, t_a, _, _, inner, *_ = apply(Scatter, target, clouds, masks, counts[0], False)
    return Pair((counts[0], counts[1]), (unit_a, unit_b), t_a, t_b, inner, torch.finfo(t_a.dtype).eps)


def _by_inner_products(clouds: Clouds, masks: Masks, other_clouds: Clouds, other_masks: Masks) -> Pair:
    a, b = _centred(clouds, masks), _centred(other_clouds, other_masks)
    products = _Product.apply(a.points, b.points)  # type: ignore[no-untyped-call]
    inner = products.square().sum() / (a.freedom * b.freedom)
    t_a, t_b = (half.points.square().sum() / half.freedom for half in (a, b))
    return Pair((a.count, b.count), (a.unit, b.unit), t_a, t_b, inner, torch.finfo(t_a.dtype).eps)


class _Cloud(NamedTuple):
    """Centred points in units of their standard deviation, that unit, m and m − 1."""

    points: Tensor
    unit: Tensor
    count: Any
    freedom: Any


def _centred(clouds: Clouds, masks: Masks) -> _Cloud:
    count = count_points(clouds, masks, product_dtype(clouds[0]))
    freedom, keep = at_least(count - 1, 1), all_kept(clouds, masks)
    shifted = centred_rows(put_together(clouds), keep, first_point(clouds, masks))
    inverse = inverse_unit(largest_entry(shifted.detach())) if len(shifted) else None
    if inverse is not None:
        shifted = shifted * inverse
    centred = centred_rows(shifted, keep, shifted.sum(0) / at_least(count, 1))
    total = centred.detach().square().sum() / freedom
    mean, divisor = mean_variance(total, centred.shape[1], torch.where)
    unit = mean.sqrt() if inverse is None else mean.sqrt() / inverse
    return _Cloud(centred * divisor.rsqrt(), unit, count, freedom)


class _Product(torch.autograd.Function):
    """X·Yᵀ, in full precision in every derivative too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return a @ b.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return _Product.apply(grad, b.T), _Product.apply(grad.T, a.T)  # type: ignore[no-untyped-call]
