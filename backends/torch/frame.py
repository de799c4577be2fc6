"""Where points are measured from, and in which unit of length: what keeps every digit, and every square in range."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import concrete
from isoscore_star.backends.torch.blocks import Block
from isoscore_star.backends.torch.points import at_least, centred_rows, on_cpu, widest

_USUAL = {torch.float32: 40, torch.float64: 400}
"""Entries between 2⁻ⁿ and 2ⁿ have squares, and sums of squares, in range: their unit is 1."""

_FARTHEST = {torch.float32: 100, torch.float64: 1000}
"""Units lie between 2⁻ⁿ and 2ⁿ, so that one over them is in range too."""


class Frame(NamedTuple):
    """The mean of points in two parts, and a unit.

    Points minus the first part are exact for close ones, however far from zero their mean lies, and zero for identical
    ones, so that the second part costs no digits.
    """

    anchor: Tensor
    """The mean rounded to the dtype in which points are centred, (d,); without gradient."""

    rest: Tensor
    """What rounding left of it, in the unit, (d,): the part that carries the mean's gradient."""

    inverse: Tensor | None
    """One over the unit, a power of two, without gradient; None where the unit is known to be 1."""

    def centred(self, rows: Tensor, keep: Tensor | None) -> Tensor:
        """Return rows minus the mean, in the unit, and zeros where a mask leaves out."""
        centred = rows - self.anchor
        if self.inverse is not None:
            centred.mul_(self.inverse)
        centred.sub_(self.rest)
        return centred if keep is None else torch.where(keep[:, None], centred, 0)


def sums_about(anchor: Tensor, blocks: Iterable[Block]) -> tuple[Tensor, Tensor]:
    """Return the sum of all differences from a point (1, d), in the widest dtype, and the largest of their entries."""
    total, largest = anchor.new_zeros(anchor.shape[1], dtype=widest(anchor.device)), anchor.new_zeros(())
    for block in blocks:
        shifted = centred_rows(block.rows, block.keep, anchor)
        total = total + shifted.sum(0)
        largest = torch.maximum(largest, largest_entry(shifted))
        del block, shifted  # before the next block is made
    return total, largest


def frame_about(anchor: Tensor, total: Tensor, largest: Tensor, count: Any) -> Frame:
    """Make the frame of m points from a point (1, d) and what `sums_about` gave of it."""
    first, some, inverse = anchor[0].to(total.dtype), at_least(count, 1), inverse_unit(largest)
    mean = (first + total / some).to(anchor.dtype)
    moved = first - mean
    if inverse is not None:  # before the division, which of subnormal numbers may leave none
        moved, total = moved * inverse, total * inverse
    return Frame(mean, (moved + total / some).to(anchor.dtype), inverse)


def known(inverse: Tensor) -> Tensor | None:
    """Return None for one over a unit that is known to be 1."""
    return None if on_cpu(inverse) and concrete(inverse) == 1 else inverse


def inverse_unit(largest: Tensor, usual: int | None = None) -> Tensor | None:
    """Return one over the unit for entries up to the given one, a power of two, so that multiplying by it is exact.

    Where the value is at hand, and for usual entries (2⁻ⁿ to 2ⁿ for the n of `usual`), nothing has to be multiplied.
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
    """Return whether a sum of squares is known to be in range, and none of them far below it."""
    value = concrete(squares)
    return value is not None and 4.0 ** -_USUAL[squares.dtype] <= value <= 4.0 ** _USUAL[squares.dtype]


def largest_entry(rows: Tensor) -> Tensor:
    """Return the largest magnitude of at least one row's entries; NaN if there is one."""
    if rows.device.type != "cpu":
        largest: Tensor = torch.linalg.vector_norm(rows, torch.inf)
        return largest
    low, high = torch.aminmax(rows)  # ten times as fast there
    return torch.maximum(high, -low)
