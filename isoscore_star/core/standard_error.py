"""Jackknife standard errors of the unbiased scores, in closed form: leave out each point, or each group of points.

What leaving out each of them adds is kept, so that two clouds of the same rows or groups can be compared: the variance
of a difference is the sum of squares of the differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from isoscore_star.core import formulas
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.keyed_sums import KeyedSums
from isoscore_star.core.moments import Moments
from isoscore_star.core.score import rounding_of_margin, unbiased_score_of_sums
from isoscore_star.core.spread import Spread, centred, inner_product

FloatArray = NDArray[np.float64]

MOST_GROUPS = 4096
"""Of more groups, those whose numbers are equal modulo this are left out together, so that memory does not grow with
them. That changes the standard error by chance, by about 1 %: a variance of 4,096 terms is known to √(2/4096)."""

ROUNDING = 1e-12
"""Of a sum from which all is left out but rounding."""


class Influences(NamedTuple):
    """What leaving out each point, or group, adds, as deviations whose squares sum to the jackknife's variance.

    `log_ratio` is of log PR and `score` of the score, both by the point's place in what was taken, or by the group's
    number modulo their length, with 0 for a group without points.
    """

    log_ratio: FloatArray
    score: FloatArray


class _Sums:
    """tr A, ‖A‖²_F, z and Σaᵢ², in units of the standard deviation."""

    def __init__(self, moments: Moments) -> None:
        self.spread = spread = moments.spread()
        self.count, self.dim = spread.count, len(spread.anchor)
        self.unit = math.sqrt(spread.total / self.dim / (spread.count - 1))
        self.z, self.q = spread.third / self.unit**3, spread.fourth / self.unit**4
        self.t, self.f = spread.total / self.unit**2, spread.squares / self.unit**4

    def centred(self, rows: NDArray[Any]) -> FloatArray:
        return centred(self.spread, rows) / self.unit

    def times(self, rows: FloatArray) -> FloatArray:
        """Return rows·A."""
        return self.spread.times(rows) / self.unit**2

    def score(self, count: Any, t: Any, f: Any, q: Any) -> FloatArray:
        """Return the unbiased score from the sums of `count` points; NaN where it is undefined."""
        rounding = rounding_of_margin(self.count, self.spread.precision)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(unbiased_score_of_sums(count, t, f, q, self.dim, np.where, rounding))


class Jackknife:
    """The standard error of the score of independent points, from leaving out each, or each of a random sample.

    It is the root of (m − 1)²/m times the variance of the leave-one-out scores.
    """

    def __init__(self, moments: Moments) -> None:
        self._sums = _Sums(moments)
        self._left_out: list[FloatArray] = []

    def take(self, rows: NDArray[Any]) -> None:
        """Take in points."""
        starts = range(0, len(rows), BLOCK_ROWS)
        self._left_out += [_leave_one_out(self._sums, rows[start : start + BLOCK_ROWS]) for start in starts]

    def error(self) -> float | None:
        """Return the standard error; None where a score is undefined (m < 5, or a denominator not positive)."""
        if self._sums.count < 5:
            return None
        error = math.sqrt((self._sums.count - 1) * float(np.var(np.concatenate(self._left_out))))
        return error if math.isfinite(error) else None

    def influences(self) -> Influences | None:
        """Return those of all points; None where a score, or its log PR, is undefined."""
        scores = np.concatenate(self._left_out) if self._left_out else np.empty(0)
        if self._sums.count < 5 or len(scores) != self._sums.count:
            return None
        ratios = formulas.participation_ratio(scores, self._sums.dim)  # type: ignore[arg-type]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = Influences(*(_scaled(values, len(scores)) for values in (np.log(ratios), scores)))
        return found if all(np.isfinite(values).all() for values in found) else None


def _scaled(changes: FloatArray, count: int) -> FloatArray:
    """Return √((n − 1)/n)·(θ₋ᵢ − θ̄)."""
    return np.asarray(math.sqrt(1 - 1 / count) * (changes - changes.mean()))


def _leave_one_out(sums: _Sums, rows: NDArray[Any]) -> FloatArray:
    own = sums.centred(rows)
    a = np.einsum("ij,ij->i", own, own)
    b = np.einsum("ij,ij->i", sums.times(own), own)
    sums_left: Any = formulas.leave_one_out(sums.count, sums.t, sums.f, sums.q, a, b, own @ sums.z)  # type: ignore[arg-type]
    return sums.score(sums.count - 1, *sums_left)


class GroupedError(NamedTuple):
    """Standard error of log PR from leaving out each group, and what it was had from.

    `independent` is the same if each point were a group of its own, `freedom` the degrees of freedom of a Student t
    that `grouped` is about as uncertain as.
    """

    grouped: float
    independent: float
    freedom: float


class HalfSums(NamedTuple):
    """What leaving out groups of one half needs: sums over each group, and two over its points."""

    of_groups: KeyedSums
    of_points: FloatArray

    def merge(self, other: HalfSums) -> HalfSums:
        """Return the sums over both."""
        return HalfSums(self.of_groups.merge(other.of_groups), self.of_points + other.of_points)


HalvesSums = tuple[HalfSums, HalfSums]


class GroupedJackknife:
    """The standard error of log PR of two halves, from leaving out each group, as numbered in the moments.

    V = Σₕ (Gₕ − 1)/Gₕ·Σ(θ₋g − θ̄ₕ)² over the groups of each half h, with θ = log PR. All points are taken once more, in
    blocks of any order, in memory for the sums over `MOST_GROUPS` groups.
    """

    def __init__(self, moments: Moments) -> None:
        ours, its = (moments.half(half).spread() for half in (0, 1))
        self._dim = moments.dim or 0
        slots = min(MOST_GROUPS // 2, ((moments.group_count or 0) + 1) // 2)
        self._halves = (_LeftOut(ours, its, slots), _LeftOut(its, ours, slots))

    def take(self, rows: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        """Take in points and the numbers of their groups."""
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            for half, sums in enumerate(self._halves):
                own = numbers[part] % 2 == half
                if own.any():
                    sums.take(rows[part][own], numbers[part][own] // 2)

    def sums(self) -> HalvesSums:
        """Return what was taken, of each half."""
        first, second = self._halves
        return first.sums(), second.sums()

    def add(self, sums: HalvesSums) -> None:
        """Take in what was taken elsewhere, with the same moments."""
        for half, its in zip(self._halves, sums, strict=True):
            half.add(its)

    def error(self) -> GroupedError | None:
        """Return the standard error; None for fewer than three groups a half, or if leaving one out leaves no score."""
        if any(half.group_count < 3 for half in self._halves):
            return None
        of_groups = [half.of_groups() for half in self._halves]
        variance = sum(float(part @ part) for part in of_groups)
        independent = sum(half.of_points() for half in self._halves)
        if not (math.isfinite(variance) and math.isfinite(independent)):
            return None
        if not variance or not independent:
            return None
        return GroupedError(math.sqrt(variance), math.sqrt(independent), freedom(of_groups))

    def influences(self, score: float) -> Influences | None:
        """Return those of all groups, by their numbers; None where `error` is. `score` is the one of all points."""
        if any(half.group_count < 3 for half in self._halves):
            return None
        found = np.zeros(2 * self._halves[0].slots)
        for number, half in enumerate(self._halves):
            found[number::2][half.has_points] = half.of_groups()
        if not np.isfinite(found).all():
            return None
        return Influences(found, found * (formulas.participation_ratio(score, self._dim) / (self._dim - 1)))


def freedom(of_groups: Sequence[FloatArray]) -> float:
    """Return the degrees of freedom of a Student t that a sum of squares over the groups of each half is like.

    By Satterthwaite a sum of squares u², of variance Σu⁴ − (Σu²)²/G, is like χ² of 2V²/var V degrees of freedom. Half
    of them, since of heavy tails a sample shows too little.
    """
    variance = sum(float(part @ part) for part in of_groups)
    spread = sum(float(np.sum(part**4) - (part @ part) ** 2 / len(part)) for part in of_groups)
    most = sum(map(len, of_groups)) - 2.0
    return min(2 * variance**2 / spread, most) / 2 if spread > 0 else most / 2


class _LeftOut:
    """Sums over each group of one half, from which the score without that group follows."""

    def __init__(self, spread: Spread, other: Spread, slots: int) -> None:
        self._spread, self._other, self._count = spread, other, spread.count
        self._inner = inner_product(spread, other) / spread.total / other.total
        # For each group k, Σ‖x‖², ΣxᵀBx, and s = Σx; Σ and Σ² of what leaving out a point adds to log PR.
        self._sizes, self._squares, self._mapped = np.zeros(slots), np.zeros(slots), np.zeros(slots)
        self._sums = np.zeros((slots, len(spread.anchor)))
        self._points = np.zeros(2)

    @property
    def slots(self) -> int:
        return len(self._sizes)

    @property
    def has_points(self) -> NDArray[np.bool_]:
        return np.asarray(self._sizes > 0)

    @property
    def group_count(self) -> int:
        return int(self.has_points.sum())

    def take(self, rows: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        spread, slots = self._spread, len(self._sizes)
        own = centred(spread, rows) / math.sqrt(spread.total)
        squares = np.einsum("ij,ij->i", own, own)
        mapped = np.einsum("ij,ij->i", self._times(own), own)
        found, index = np.unique(numbers % slots, return_inverse=True)
        members = csr_array((np.ones(len(rows)), (index, np.arange(len(rows)))), shape=(len(found), len(rows)))
        self._sizes[found] += np.bincount(index)
        self._squares[found] += np.bincount(index, squares)
        self._mapped[found] += np.bincount(index, mapped)
        self._sums[found] += members @ own
        changes = self._changes(1, squares, mapped, squares, mapped)
        self._points += changes.sum(), changes @ changes

    def sums(self) -> HalfSums:
        return HalfSums(KeyedSums.of(self.has_points, *self._of_each), self._points)

    def add(self, sums: HalfSums) -> None:
        sums.of_groups.add_to(*self._of_each)
        self._points += sums.of_points

    @property
    def _of_each(self) -> tuple[FloatArray, ...]:
        return self._sizes, self._squares, self._mapped, self._sums

    def of_groups(self) -> FloatArray:
        """Return √((G − 1)/G)·(θ₋g − θ̄) of each group."""
        kept = self.has_points
        sums = self._sums[kept]
        changes = self._changes(
            self._sizes[kept],
            self._squares[kept],
            self._mapped[kept],
            np.einsum("ij,ij->i", sums, sums),
            np.einsum("ij,ij->i", self._times(sums), sums),
        )
        return _scaled(changes, len(changes))

    def of_points(self) -> float:
        """Return the half's part of V if each point were a group."""
        total, squares = self._points
        return float((squares - total * total / self._count) * (1 - 1 / self._count))

    def _times(self, rows: FloatArray) -> FloatArray:
        return self._other.times(rows) / self._other.total

    def _changes(self, k: Any, a: Any, b: Any, s: Any, sbs: Any) -> FloatArray:
        """Return θ without each group less θ of all; NaN where what is left of a sum is but rounding."""
        t, left = formulas.without_group(1.0, 1.0, self._count, k, a, b / self._inner, s, sbs / self._inner)
        defined = (np.asarray(t) > ROUNDING) & (np.asarray(left) > ROUNDING)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(defined, np.log(t) - np.log(left), np.nan)
