"""A class of many points by itself, block by block, so that memory does not grow with its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.errors import DegenerateDataError
from isoscore_star.core.moments import Moments
from isoscore_star.core.second_pass import SecondPass
from isoscore_star.groupwise._classes import Places, Rows


class One(NamedTuple):
    """The moments of one class, its score, unbiased score and standard error; NaN where there is none."""

    moments: Moments
    score: float
    unbiased: float
    error: float


def one_of(points: Rows, numbers: Places, groups: Places | None) -> One:
    """Measure the points with these numbers, whose groups are numbered."""
    moments = Moments()
    for part in _blocks(len(numbers)):
        rows = points.at(numbers[part])
        if groups is None:
            moments.update(rows, groups=None)
        else:
            moments.update(rows, groups=groups[part], first_group=0)
    score, unbiased = _defined(moments.isoscore), _defined(moments.isoscore_unbiased)
    if not np.isfinite(unbiased):
        return One(moments, score, unbiased, np.nan)
    second = SecondPass(moments, unbiased, is_whole=False)
    for part in _blocks(len(numbers)):
        second.take(points.at(numbers[part]), None if groups is None else groups[part])
    error = second.found().error
    return One(moments, score, unbiased, np.nan if error is None else error)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS))


def _defined(score: Callable[[], float]) -> float:
    try:
        return score()
    except DegenerateDataError:
        return np.nan
