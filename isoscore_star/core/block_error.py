"""Standard error of log PR in one pass, where the points cannot be had again: leave out blocks of whole groups."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from isoscore_star.core import formulas
from isoscore_star.core.errors import IsoScoreError
from isoscore_star.core.moments import Moments

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
    blocks: Sequence[Moments], statistic: Callable[[Moments], float], rest: Moments | None = None
) -> Iterator[float]:
    """Return the statistic of all blocks but one, for each; in R·log R merges, and the memory of log R blocks.

    Merged with what is left, never subtracted from all: of a block that holds nearly all variance no digit would stay.
    """
    if len(blocks) == 1:
        yield math.nan if rest is None else statistic(rest)
        return
    middle = len(blocks) // 2
    for own, others in ((blocks[:middle], blocks[middle:]), (blocks[middle:], blocks[:middle])):
        yield from without_each(own, statistic, union(others, rest))


def union(blocks: Sequence[Moments], rest: Moments | None = None) -> Moments:
    """Return the moments of all blocks, whose even groups stay even, so that leaving one out changes no half."""
    merged = Moments(sketch=blocks[0].sketch, seed=blocks[0].seed) if rest is None else copy.copy(rest)
    for block in blocks:
        merged.merge_halves(block)
    return merged


def block_error(blocks: Sequence[Moments], log_all: float) -> float | None:
    """Return the standard error of log PR from leaving out each block; None if it is not defined.

    The jackknife for blocks of unequal size of Busing, Meijer & van der Leeden, *Delete-m jackknife for unequal m*,
    Statistics and Computing 9 (1999): with h = n/nᵣ and τᵣ = h·θ − (h − 1)·θ₋ᵣ, V = 1/R·Σ(τᵣ − τ̄)²/(h − 1), where
    τ̄ = R·θ − Σ(1 − 1/h)·θ₋ᵣ. Sizes count groups, or independent points.
    """
    sizes = np.array([block.group_count or block.count for block in blocks], float)
    if len(blocks) < LEAST_BLOCKS or not sizes.all():
        return None
    left_out = np.fromiter(without_each(blocks, log_ratio), float, len(blocks))
    h = sizes.sum() / sizes
    pseudo = h * log_all - (h - 1) * left_out
    centre = len(blocks) * log_all - float(((1 - 1 / h) * left_out).sum())
    variance = float(np.mean((pseudo - centre) ** 2 / (h - 1)))
    return math.sqrt(variance) if math.isfinite(variance) and variance else None
