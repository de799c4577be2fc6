"""Sums of clouds for `StreamingMoments`: of a block of rows, as one vector, and of all ranks."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch import distributed as ranks
from isoscore_star.backends.torch.frame import inverse_unit, largest_entry
from isoscore_star.backends.torch.points import (
    at_least,
    centred_rows,
    compute_dtype,
    count_points,
    first_point,
    symmetric_products,
)
from isoscore_star.core.merging import Operations, Sums, moved_third_and_fourth
from isoscore_star.core.scaling import not_zero

_USUAL = 16
"""Entries between 2⁻ⁿ and 2ⁿ have the unit 1: sums of their fourth powers are in float32's range."""


def sums_of_block(rows: Tensor, keep: Tensor | None, like: Sums) -> Sums:
    """Compute the sums of a block of rows, in the dtype, on the device and with the orders of others."""
    count = count_points([rows], [keep], compute_dtype(rows))
    anchor = first_point([rows], [keep])
    shifted = centred_rows(rows, keep, anchor)
    largest = largest_entry(shifted)
    inverse = inverse_unit(largest, _USUAL)
    shifted = shifted if inverse is None else shifted * inverse
    offset = shifted.sum(0) / at_least(count, 1)
    centred = centred_rows(shifted, keep, offset)
    # Converted before anything is added, since a sum may need more digits than its parts.
    unit = (largest > 0).to(like.unit)
    unit = unit if inverse is None else unit / inverse
    block = Sums(torch.zeros_like(unit) + count, unit, anchor[0], offset, symmetric_products([centred]))
    if like.third is not None:
        squared_norms = centred.square().sum(1)
        block.third, block.fourth = squared_norms @ centred, squared_norms.to(unit).square().sum()
    return beside(block, like.scatter)


def length(dim: int, *, fourth_order: bool) -> int:
    """Return the number of entries of packed sums."""
    return sum(_sizes(dim, fourth_order))


def packed(sums: Sums) -> Tensor:
    """Return sums as one vector, which begins with n."""
    parts = [sums.count, sums.unit, sums.anchor, sums.offset, sums.scatter]
    parts += [] if sums.third is None else [sums.fourth, sums.met, sums.third]
    return torch.cat([part.reshape(-1) for part in parts])


def unpacked(vector: Tensor, dim: int, *, fourth_order: bool) -> Sums:
    """Return the sums in a packed vector, as views."""
    count, unit, anchor, offset, scatter, *more = torch.split(vector, _sizes(dim, fourth_order))
    sums = Sums(count[0], unit[0], anchor, offset, scatter.view(dim, dim))
    if fourth_order:
        (sums.fourth, sums.met), sums.third = more
    return sums


def beside(sums: Sums, like: Tensor) -> Sums:
    """Convert sums to the dtype and device of a tensor."""
    return Sums(*(part.to(like) if isinstance(part, Tensor) else part for part in vars(sums).values()))


def add_ranks(sums: Sums, group: Any) -> None:
    """Replace sums by those of all ranks' points."""
    own_count = sums.count
    reach = torch.stack([sums.unit, sums.offset.abs().amax() * sums.unit])
    anchor, apart, (unit, reach) = ranks.common_anchor(sums.anchor, own_count, reach, group)
    unit = torch.maximum(unit, _unit_for(apart + 2 * reach))
    divisor = not_zero(unit, torch.where)
    ratio = sums.unit / divisor
    own_offset = torch.where(own_count > 0, (sums.anchor - anchor) / divisor + sums.offset * ratio, 0)
    count, total = ranks.all_sum(torch.cat([own_count[None], own_count * own_offset]), group).tensor_split([1])
    offset = total / count.clamp(min=1)
    h = torch.where(own_count > 0, offset - own_offset, 0)
    if sums.third is not None:
        third, fourth = moved_third_and_fourth(sums, h, ratio, OPERATIONS)
        moved = torch.cat([third, fourth[None], sums.met[None]])
        sums.third, (sums.fourth, sums.met) = ranks.all_sum(moved, group).tensor_split([len(anchor)])
    sums.scatter.mul_(ratio * ratio).addr_(own_count * h, h)
    ranks.all_sum(sums.scatter, group)
    sums.count, sums.unit, sums.anchor, sums.offset = count[0], unit, anchor, offset


def _sizes(dim: int, fourth_order: bool) -> list[int]:
    """Return the lengths of n, unit, anchor, offset, scatter and, if kept, Σ‖x‖⁴ with the number of groups, and z."""
    return [1, 1, dim, dim, dim * dim, *([2, dim] if fourth_order else [])]


def _unit_for(length: Tensor) -> Tensor:
    """Return the unit for lengths up to the given one, 0 for none."""
    inverse = inverse_unit(length, _USUAL)
    return (length > 0).to(length) if inverse is None else torch.where(length > 0, 1 / inverse, 0)


OPERATIONS = Operations(
    torch.where,
    operator.matmul,
    torch.trace,
    lambda vector: _unit_for(vector.abs().amax()),
    lambda scatter, own, other, its, u, v: scatter.mul_(own).addcmul_(other, its).addr_(u, v),
)
