"""Standard error of log PR in one pass, where the points cannot be had again: leave out blocks of whole groups."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import formulas
from isoscore_star.core.accumulator import Accumulator
from isoscore_star.core.errors import IsoScoreError
from isoscore_star.core.moments import Moments
from isoscore_star.core.spread import Spread, inner_product

FloatArray = NDArray[np.float64]
Statistic = TypeVar("Statistic")

_LEAST_LEFT = 4
"""Groups in each half that have to be left for a subtraction; of fewer, merging says whether they suffice."""

_LEAST_SHARE = 1e-3
"""Of what is left after a subtraction: float32's products, of relative rounding 1e-7, leave it four digits."""

LEAST_BLOCKS = 8
"""Of fewer the error itself is uncertain by more than a quarter: a variance of R terms is known to √(2/(R-1))."""


def log_ratio(moments: Moments) -> float:
    """Return log PR of the unbiased score; NaN where it is not defined."""
    try:
        ratio = formulas.participation_ratio(moments.isoscore_unbiased(), moments.dim or 0)
    except IsoScoreError:
        return math.nan
    return math.log(ratio) if ratio > 0 else math.nan


def without_each(
    blocks: Sequence[Moments], statistic: Callable[[Moments], Statistic], rest: Moments | None = None
) -> Iterator[Statistic]:
    """Return the statistic of all blocks but one, for each; in R·log R merges, and the memory of log R blocks.

    Merged with what is left, never subtracted from all: of a block that holds nearly all variance no digit would stay.
    """
    if len(blocks) == 1:
        yield statistic(Moments() if rest is None else rest)
        return
    middle = len(blocks) // 2
    for own, others in ((blocks[:middle], blocks[middle:]), (blocks[middle:], blocks[:middle])):
        yield from without_each(own, statistic, union(others, rest))


def log_ratios_without(blocks: Sequence[Moments]) -> FloatArray:
    """Return log PR of all blocks but one, for each; NaN where it is not defined.

    Of groups in many blocks by subtraction from all, which takes three products instead of log R merges, unless so
    little is left that its digits would be lost.
    """
    whole = union(blocks)
    halves = whole.half(0), whole.half(1)
    left_out = [_subtracted(halves, block) for block in blocks] if _can_be_subtracted(whole, blocks) else [None]
    if None in left_out:
        return np.fromiter(without_each(blocks, log_ratio), float, len(blocks))
    return np.array(left_out, float)


def _can_be_subtracted(whole: Moments, blocks: Sequence[Moments]) -> bool:
    """Return whether all points came in groups, of which eight are left without any block, in the unit 1."""
    if whole.sketch is not None:
        return False
    groups = whole.group_count or 0
    most = max(block.group_count or groups for block in blocks)
    spreads = [of.half(number).spread() for of in (whole, *blocks) for number in (0, 1) if of.half(number).count]
    return groups - most >= 2 * _LEAST_LEFT and whole.count > 0 and all(spread.unit == 1 for spread in spreads)


def _subtracted(halves: tuple[Accumulator, Accumulator], block: Moments) -> float | None:
    """Return log PR of the halves A and B without a block's; None if too little is left.

    A half of n points and mean μ loses m points of scatter C and mean μ + δ: A − C − nm/(n − m)·δδᵀ.
    """
    (a, c, u, of_c), (b, d, v, of_d) = (
        _lost(half.spread(), block.half(number).spread() if block.half(number).count else None)
        for number, half in enumerate(halves)
    )
    if u is None or v is None:
        return None
    traces = a.total - of_c - float(u @ u), b.total - of_d - float(v @ v)
    inner = inner_product(a, b) - _quadratic(b, u) - _quadratic(a, v) + float(u @ v) ** 2
    if c is not None:
        inner -= inner_product(c, b) - _quadratic(c, v)
    if d is not None:
        inner -= inner_product(a, d) - _quadratic(d, u)
    if c is not None and d is not None:
        inner += inner_product(c, d)
    least = _LEAST_SHARE * inner_product(a, b)
    if inner <= least or traces[0] <= _LEAST_SHARE * a.total or traces[1] <= _LEAST_SHARE * b.total:
        return None
    return math.log(traces[0]) + math.log(traces[1]) - math.log(inner)


def _lost(half: Spread, block: Spread | None) -> tuple[Spread, Spread | None, FloatArray | None, float]:
    """Return a half, what it loses, √(nm/(n − m))·δ, and the trace of what it loses; no δ if nothing is left."""
    if block is None:
        return half, None, np.zeros(len(half.anchor)), 0.0
    left = half.count - block.count
    if left < 2:
        return half, block, None, 0.0
    # Anchors are points, so that their difference is exact.
    apart = (block.anchor - half.anchor) + block.offset - half.offset
    return half, block, apart * math.sqrt(half.count * block.count / left), block.total


def _quadratic(spread: Spread, vector: FloatArray) -> float:
    return float((spread.times(vector[None]) @ vector).item())


def union(blocks: Sequence[Moments], rest: Moments | None = None) -> Moments:
    """Return the moments of all blocks, whose even groups stay even, so that leaving one out changes no half."""
    merged = Moments(sketch=blocks[0].sketch, seed=blocks[0].seed) if rest is None else copy.copy(rest)
    for block in blocks:
        merged.merge_halves(block)
    return merged


def balanced(blocks: Sequence[Moments]) -> list[Moments]:
    """Return blocks whose halves add up to equal numbers of groups: of those with an odd number every second is turned.

    Otherwise blocks of one group each would all be in one half.
    """
    found, turn = [], False
    for block in blocks:
        is_odd = (block.group_count or 0) % 2 == 1
        found.append(block.turned() if is_odd and turn else block)
        turn ^= is_odd
    return found


def block_influences(blocks: Sequence[Moments], log_all: float) -> FloatArray:
    """Return what each block adds to log PR: the sum of the squares is its variance; NaN where it is not defined.

    The jackknife for blocks of unequal size of Busing, Meijer & van der Leeden, *Delete-m jackknife for unequal m*,
    Statistics and Computing 9 (1999): with h = n/nᵣ and τᵣ = h·θ − (h − 1)·θ₋ᵣ, V = 1/R·Σ(τᵣ − τ̄)²/(h − 1), where
    τ̄ = R·θ − Σ(1 − 1/h)·θ₋ᵣ. Sizes count groups with points, or independent points.
    """
    sizes = np.array([block.groups_with_points or block.count for block in blocks], float)
    left_out, h = log_ratios_without(blocks), sizes.sum() / sizes
    pseudo = h * log_all - (h - 1) * left_out
    centre = len(blocks) * log_all - float(((1 - 1 / h) * left_out).sum())
    return np.asarray((centre - pseudo) / np.sqrt((h - 1) * len(blocks)))


def block_error(blocks: Sequence[Moments], log_all: float) -> float | None:
    """Return the standard error of log PR from leaving out each block; None if it is not defined."""
    if len(blocks) < LEAST_BLOCKS:
        return None
    influences = block_influences(blocks, log_all)
    variance = float(influences @ influences)
    return math.sqrt(variance) if math.isfinite(variance) and variance else None
