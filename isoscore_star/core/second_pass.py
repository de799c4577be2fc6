"""What needs the points again, once their moments are known: the standard error, and the longest points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, formulas
from isoscore_star.core.between import GroupSums
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.keyed_sums import KeyedSums
from isoscore_star.core.longest_points import Kept, Longest, LongestPoints, longest_of
from isoscore_star.core.messages import shown
from isoscore_star.core.moments import Moments
from isoscore_star.core.standard_error import GroupedJackknife, HalvesSums, Influences, Jackknife

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


class Taken(NamedTuple):
    """What some of the points of groups add up to in a second pass, which merges in any order.

    `met` and `counts` are the groups with points and the points of each half; `longest` the longest points; `between`
    and `left_out` sums over the groups, None where they are not wanted.
    """

    met: NDArray[np.bool_]
    counts: NDArray[np.int64]
    longest: Kept
    between: KeyedSums | None
    left_out: HalvesSums | None

    def merge(self, other: Taken) -> Taken:
        """Return what both took."""
        ours, its = self.left_out, other.left_out
        return Taken(
            self.met | other.met,
            self.counts + other.counts,
            longest_of(self.longest, other.longest),
            None if self.between is None or other.between is None else self.between.merge(other.between),
            None if ours is None or its is None else (ours[0].merge(its[0]), ours[1].merge(its[1])),
        )


class Elsewhere(NamedTuple):
    """A second pass that is made where the points are; `taken` makes it, given all moments and the unbiased score."""

    taken: Callable[[Moments, float | None], Taken]


def second_pass(moments: Moments, rows: Any, groups: Any, unbiased: float | None) -> Found:
    """Take the points of the moments, or a sample of them if they are independent, once more."""
    if rows is None:
        if groups is not None:
            raise InvalidValueError("groups", "expected none without rows, to which they belong. Give both")
        return Found(group_count=moments.group_count)
    if isinstance(rows, Elsewhere):
        whole = SecondPass(moments, unbiased)
        whole.add(rows.taken(moments, unbiased))
        return whole.found()
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
    taken = SecondPass(moments, unbiased, is_whole=is_whole)
    for rows, numbers in blocks:
        taken.take(rows, numbers)
    return taken.found()


class SecondPass:
    """Takes the points of the moments once more, in blocks of any order; of independent ones a sample will do.

    `unbiased` is the score whose standard error is wanted, None where it is not defined.
    """

    def __init__(self, moments: Moments, unbiased: float | None, *, is_whole: bool = True) -> None:
        self._moments, self._unbiased, self._is_whole = moments, unbiased, is_whole
        self._longest = Longest(moments.spread())
        self._points: Jackknife | None = None
        self._groups: GroupedJackknife | None = None
        self._between: GroupSums | None = None
        self._met, self._counts = np.zeros(moments.group_count or 0, bool), np.zeros(2, np.int64)
        if moments.group_count is None:
            self._points = None if unbiased is None else Jackknife(moments)
            return
        self._between = GroupSums.within_memory(moments.spread(), moments.group_count)
        if unbiased is not None:
            self._groups = GroupedJackknife(moments)

    def take(self, rows: NDArray[Any], numbers: Numbers | None) -> None:
        """Take in points, and the numbers of their groups."""
        if self._moments.group_count is None:
            if self._is_whole:
                self._longest.take(rows)
            if self._points is not None:
                self._points.take(rows)
            return
        if numbers is None or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self._met)):
            raise _other_groups(self._moments)
        self._met[numbers] = True
        self._counts += np.bincount(numbers % 2, minlength=2)
        self._longest.take(rows)
        if self._between is not None:
            self._between.take(rows, numbers)
        if self._groups is not None:
            self._groups.take(rows, numbers)

    def taken(self) -> Taken:
        """Return what was taken of points in groups, for `add`."""
        between = None if self._between is None else self._between.sums()
        left_out = None if self._groups is None else self._groups.sums()
        return Taken(self._met, self._counts, self._longest.kept, between, left_out)

    def add(self, taken: Taken) -> None:
        """Take in what a second pass of the same moments took of other points."""
        self._met |= taken.met
        self._counts += taken.counts
        self._longest.add(taken.longest)
        if self._between is not None and taken.between is not None:
            self._between.add(taken.between)
        if self._groups is not None and taken.left_out is not None:
            self._groups.add(taken.left_out)

    def found(self) -> Found:
        """Return what was found."""
        longest = self._longest.points() if self._is_whole else None
        if self._moments.group_count is None:
            error = None if self._points is None else self._points.error()
            return Found(error, longest=longest, has_points=True)
        if self._counts.tolist() != [self._moments.half(half).count for half in (0, 1)]:
            raise _other_groups(self._moments)
        between = None if self._between is None else self._between.scatter()
        found = Found(group_count=int(self._met.sum()), longest=longest, has_points=True, between=between)
        of_groups, dim = None if self._groups is None else self._groups.error(), self._moments.dim or 0
        if of_groups is None or self._unbiased is None:
            return found
        return found._replace(
            error=of_groups.grouped * formulas.participation_ratio(self._unbiased, dim) / (dim - 1),
            freedom=of_groups.freedom,
            design_effect=(of_groups.grouped / of_groups.independent) ** 2,
        )

    def influences(self) -> Influences | None:
        """Return what leaving out each point or group adds; None where that is not defined, or of a sample."""
        if self._points is not None:
            return self._points.influences()
        return None if self._groups is None or self._unbiased is None else self._groups.influences(self._unbiased)


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
