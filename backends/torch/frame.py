"""The anchor and the unit of points, by which no digit is lost and all squares are in range."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import concrete
from isoscore_star.backends.torch.blocks import Block
from isoscore_star.backends.torch.points import at_least, centred_rows, on_cpu, widest

_USUAL = {torch.float32: 40, torch.float64: 400}
"""Entries between 2⁻ⁿ and 2ⁿ have sums of squares in range: their unit is 1."""

_FARTHEST = {torch.float32: 100, torch.float64: 1000}
"""Units lie between 2⁻ⁿ and 2ⁿ, so that their inverses are in range too."""


class Frame(NamedTuple):
    """The mean of points as anchor + unit·rest, and the inverse of the unit.

    The anchor is the mean rounded to the dtype in which points are centred, so that differences from it are exact for
    close points; the rest carries the mean's gradient. The unit is a power of two; its inverse is None where it is
    known to be 1.
    """

    anchor: Tensor
    rest: Tensor
    inverse: Tensor | None

    def centred(self, rows: Tensor, keep: Tensor | None) -> Tensor:
        """Return rows minus the mean, in the unit, and zeros for masked ones."""
        centred = rows - self.anchor
        if self.inverse is not None:
            centred.mul_(self.inverse)
        centred.sub_(self.rest)
        return centred if keep is None else torch.where(keep[:, None], centred, 0)


def sums_about(anchor: Tensor, blocks: Iterable[Block]) -> tuple[Tensor, Tensor]:
    """Return the sum of the differences from a point (1, d), in the widest dtype, and their largest entry."""
    total, largest = anchor.new_zeros(anchor.shape[1], dtype=widest(anchor.device)), anchor.new_zeros(())
    for block in blocks:
        shifted = centred_rows(block.rows, block.keep, anchor)
        total = total + shifted.sum(0)
        largest = torch.maximum(largest, largest_entry(shifted))
        del block, shifted  # before the next block is made
    return total, largest


def frame_about(anchor: Tensor, total: Tensor, largest: Tensor, count: Any) -> Frame:
    """Compute the frame of m points from a point (1, d) and `sums_about` it."""
    first, some, inverse = anchor[0].to(total.dtype), at_least(count, 1), inverse_unit(largest)
    mean = (first + total / some).to(anchor.dtype)
    moved = first - mean
    if inverse is not None:  # before the division, which would lose subnormal numbers
        moved, total = moved * inverse, total * inverse
    return Frame(mean, (moved + total / some).to(anchor.dtype), inverse)


def known(inverse: Tensor) -> Tensor | None:
    """Return the inverse of a unit, or None if it is known to be 1."""
    return None if on_cpu(inverse) and concrete(inverse) == 1 else inverse


def inverse_unit(largest: Tensor, usual: int | None = None) -> Tensor | None:
    """Return the inverse unit for the given largest entry, a power of two, by which multiplication is exact.

    None means 1: for entries between 2⁻ⁿ and 2ⁿ, with n = `usual`, if the value is known without waiting.
    """
    value = concrete(largest) if on_cpu(largest) else None
    bound = 2.0 ** (usual or _USUAL[largest.dtype])
    if value is not None and (1 / bound <= value <= bound or value == 0):
        return None
    # Rounded down to a power of two, in a few operations and none on the host; 0 and what is not finite become 1.
    farthest = 2.0 ** _FARTHEST[largest.dtype]
    unit = (largest / (2 * torch.frexp(largest).mantissa)).nan_to_num(1.0).clamp(1 / farthest, farthest)
    return unit.reciprocal()


def known_to_be_usual(squares: Tensor) -> bool:
    """Return whether a sum of squares is known to need no unit."""
    value = concrete(squares)
    return value is not None and 4.0 ** -_USUAL[squares.dtype] <= value <= 4.0 ** _USUAL[squares.dtype]


def largest_entry(rows: Tensor) -> Tensor:
    """Return the largest magnitude in at least one row; NaN if there is one."""
    if rows.device.type != "cpu":
        largest: Tensor = torch.linalg.vector_norm(rows, torch.inf)
        return largest
    low, high = torch.aminmax(rows)  # ten times as fast there
    return torch.maximum(high, -low)
