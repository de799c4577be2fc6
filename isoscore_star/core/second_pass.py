"""What needs the points again, once their moments are known: the standard error, and the longest points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, formulas
from isoscore_star.core.between import GroupSums
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.longest_points import Longest, LongestPoints
from isoscore_star.core.messages import shown
from isoscore_star.core.moments import Moments
from isoscore_star.core.standard_error import GroupedJackknife, Jackknife

Numbers = NDArray[np.int64]
Blocks = Callable[[], Iterable[tuple[NDArray[Any], Numbers | None]]]


class Found(NamedTuple):
    """What a second pass finds.

    `error` is that of the unbiased score, `freedom` the degrees of freedom of the Student t for its interval, None for
    the normal distribution. `has_points` says whether there were the points that a standard error needs. `between` is
    the scatter between groups, unless they are too many.
    """

    error: float | None = None
    freedom: float | None = None
    design_effect: float | None = None
    group_count: int | None = None
    longest: LongestPoints | None = None
    has_points: bool = False
    between: NDArray[np.float64] | None = None


def second_pass(moments: Moments, rows: Any, groups: Any, unbiased: float | None) -> Found:
    """Take the points of the moments, or a sample of them if they are independent, once more."""
    if rows is None:
        if groups is not None:
            raise InvalidValueError("groups", "expected none without rows, to which they belong. Give both")
        return Found(group_count=moments.group_count)
    if callable(rows):
        if groups is not None:
            raise InvalidValueError("groups", "expected none with blocks of rows, which have their own")
        return _pass(moments, rows(), unbiased, is_whole=True)
    sample = _sample(rows, moments)
    if moments.group_count is not None and groups is None:
        return Found(group_count=moments.group_count)
    block = sample, None if groups is None else _numbers(groups, moments)
    return _pass(moments, [block], unbiased, is_whole=len(sample) == moments.count)


def _pass(
    moments: Moments, blocks: Iterable[tuple[NDArray[Any], Numbers | None]], unbiased: float | None, *, is_whole: bool
) -> Found:
    longest = Longest(moments.spread())
    if moments.group_count is None:
        return _independent(moments, blocks, longest, unbiased, is_whole)
    jackknife = None if unbiased is None else GroupedJackknife(moments)
    sums = GroupSums.within_memory(moments.spread(), moments.group_count)
    counts, met = [0, 0], np.zeros(moments.group_count, bool)
    for rows, numbers in blocks:
        if numbers is None or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(met)):
            raise _other_groups(moments)
        met[numbers] = True
        counts = [count + int((numbers % 2 == half).sum()) for half, count in enumerate(counts)]
        longest.take(rows)
        if sums is not None:
            sums.take(rows, numbers)
        if jackknife is not None:
            jackknife.take(rows, numbers)
    if counts != [moments.half(half).count for half in (0, 1)]:
        raise _other_groups(moments)
    between = None if sums is None else sums.scatter()
    found = Found(group_count=int(met.sum()), longest=longest.points(), has_points=True, between=between)
    error = None if jackknife is None else jackknife.error()
    if error is None or unbiased is None:
        return found
    return found._replace(
        error=error.grouped * formulas.participation_ratio(unbiased, moments.dim or 0) / ((moments.dim or 0) - 1),
        freedom=error.freedom,
        design_effect=(error.grouped / error.independent) ** 2,
    )


def _independent(
    moments: Moments,
    blocks: Iterable[tuple[NDArray[Any], Numbers | None]],
    longest: Longest,
    unbiased: float | None,
    is_whole: bool,
) -> Found:
    jackknife = None if unbiased is None else Jackknife(moments)
    for rows, _ in blocks:
        if is_whole:
            longest.take(rows)
        if jackknife is not None:
            jackknife.take(rows)
    error = None if jackknife is None else jackknife.error()
    return Found(error, longest=longest.points() if is_whole else None, has_points=True)


def _sample(rows: Any, moments: Moments) -> NDArray[Any]:
    """Require the points that the moments are of, or some of them."""
    points, count, dim = checks.points(rows), moments.count, moments.dim
    sample = np.concatenate(points.rows())
    if points.dim != dim or not 2 <= len(sample) <= count or not np.isfinite(sample).all():
        raise InvalidValueError(
            "rows",
            f"expected 2 to {count} finite points of {dim} dimensions, a sample of those that the moments are of; "
            f"got {len(sample)} of {points.dim}",
        )
    return sample


def _numbers(groups: Any, moments: Moments) -> Numbers:
    """Require the number of the group of each point."""
    numbers = np.asarray(groups)
    if moments.group_count is None:
        raise InvalidValueError("groups", "expected none, since the moments are of independent points")
    if numbers.dtype.kind not in "iu":
        raise InvalidTypeError("groups", f"expected the numbers of groups, integers; got {shown(groups)}")
    if numbers.shape != (moments.count,):
        raise InvalidValueError(
            "groups", f"expected shape ({moments.count},), the number of each point's group; got {numbers.shape}"
        )
    return numbers.astype(np.int64)


def _other_groups(moments: Moments) -> InvalidValueError:
    halves = [moments.half(half).count for half in (0, 1)]
    return InvalidValueError(
        "groups",
        f"expected the points of the moments with their groups' numbers from 0 to {(moments.group_count or 0) - 1}: "
        f"{halves[0]} points with even numbers and {halves[1]} with odd ones; got others",
    )
