"""Jackknife standard errors of the unbiased scores, in closed form: leave out each point, or each group of points."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import formulas
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.moments import Moments
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import rounding_of_margin, unbiased_margin, unbiased_score
from isoscore_star.core.spread import Spread, inner_product

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-12
"""Of a sum from which all is left out but rounding."""


class _Sums:
    """tr A, ‖A‖²_F, z and Σaᵢ², in units of the standard deviation."""

    def __init__(self, moments: Moments) -> None:
        self.spread = spread = moments.spread()
        self.count, self.dim = spread.count, len(spread.anchor)
        self.unit = math.sqrt(spread.total / self.dim / (spread.count - 1))
        self.z, self.q = spread.third / self.unit**3, spread.fourth / self.unit**4
        self.t, self.f = spread.total / self.unit**2, spread.squares / self.unit**4

    def centred(self, rows: NDArray[Any]) -> FloatArray:
        shifted = (rows.astype(np.float64) - self.spread.anchor) / self.spread.unit - self.spread.offset
        return np.asarray(shifted / self.unit)

    def times(self, rows: FloatArray) -> FloatArray:
        """Return rows·A."""
        return self.spread.times(rows) / self.unit**2

    def score(self, count: Any, t: Any, f: Any, q: Any) -> FloatArray:
        """Return the unbiased score from the sums of `count` points; NaN where it is undefined."""
        freedom = count - 1
        invariants = Invariants(count, 1.0, t / freedom, f / freedom**2, q / freedom)
        with np.errstate(divide="ignore", invalid="ignore"):
            defined = unbiased_margin(invariants) > rounding_of_margin(self.count, self.spread.precision)
            return np.where(defined, unbiased_score(invariants, self.dim, np.where, floored=False), np.nan)


def jackknife(moments: Moments, rows: NDArray[Any]) -> float | None:
    """Estimate the standard error by leaving out each of the points, or of a random sample of them.

    It is the root of (m − 1)²/m times the variance of the leave-one-out scores; None where one of these is undefined
    (m < 5, or a denominator that is not positive).
    """
    if moments.count < 5:
        return None
    sums = _Sums(moments)
    left_out = np.concatenate(
        [_leave_one_out(sums, rows[start : start + BLOCK_ROWS]) for start in range(0, len(rows), BLOCK_ROWS)]
    )
    error = math.sqrt((moments.count - 1) * float(np.var(left_out)))
    return error if math.isfinite(error) else None


def _leave_one_out(sums: _Sums, rows: NDArray[Any]) -> FloatArray:
    centred = sums.centred(rows)
    a = np.einsum("ij,ij->i", centred, centred)
    b = np.einsum("ij,ij->i", sums.times(centred), centred)
    sums_left: Any = formulas.leave_one_out(sums.count, sums.t, sums.f, sums.q, a, b, centred @ sums.z)  # type: ignore[arg-type]
    return sums.score(sums.count - 1, *sums_left)


class GroupedError(NamedTuple):
    """Standard error of log PR from leaving out each group, and the same if each point were a group of its own."""

    grouped: float
    independent: float


def grouped_jackknife(moments: Moments, rows: NDArray[Any], numbers: NDArray[np.int64]) -> GroupedError | None:
    """Estimate the standard error of log PR of two halves by leaving out each group, as numbered in the moments.

    V = Σₕ (Gₕ − 1)/Gₕ·Σ(θ₋g − θ̄ₕ)² over the groups of each half h, with θ = log PR. None for fewer than three groups in
    a half, or where leaving one out leaves no score.
    """
    grouped, independent = 0.0, 0.0
    for half in (0, 1):
        own = numbers % 2 == half
        groups, index = np.unique(numbers[own], return_inverse=True)
        if len(groups) < 3:
            return None
        variances = _leave_out_of_half(moments.half(half).spread(), moments.half(1 - half).spread(), rows[own], index)
        grouped, independent = grouped + variances[0], independent + variances[1]
    if not (math.isfinite(grouped) and math.isfinite(independent)):
        return None
    return GroupedError(math.sqrt(grouped), math.sqrt(independent))


def _leave_out_of_half(
    spread: Spread, other: Spread, rows: NDArray[Any], index: NDArray[np.intp]
) -> tuple[float, float]:
    """Return a half's part of V for its groups and for its points."""
    groups = int(index.max()) + 1
    # For each group k, Σ‖x‖², ΣxᵀBx, and s = Σx; for each point the same.
    sizes, sums = np.bincount(index), np.zeros((groups, rows.shape[1]))
    squares, mapped = np.empty(len(rows)), np.empty(len(rows))
    scale = math.sqrt(spread.total), other.total
    for start in range(0, len(rows), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        shifted = (rows[part].astype(np.float64) - spread.anchor) / spread.unit - spread.offset
        centred = shifted / scale[0]
        squares[part] = np.einsum("ij,ij->i", centred, centred)
        mapped[part] = np.einsum("ij,ij->i", other.times(centred) / scale[1], centred)
        np.add.at(sums, index[part], centred)
    inner = inner_product(spread, other) / spread.total / other.total

    def variance(k: Any, a: Any, b: Any, s: Any, sbs: Any) -> float:
        t, left = formulas.without_group(1.0, inner, len(rows), k, a, b, s, sbs)
        with np.errstate(divide="ignore", invalid="ignore"):
            theta = np.log(t) - np.log(left)
        # What is left of a sum from which all is taken is rounding.
        theta = np.where((t > _ROUNDING) & (left > _ROUNDING * inner), theta, np.nan)
        return float(np.var(theta) * (len(theta) - 1))

    of_groups = variance(
        sizes,
        np.bincount(index, squares),
        np.bincount(index, mapped),
        np.einsum("ij,ij->i", sums, sums),
        np.einsum("ij,ij->i", other.times(sums) / scale[1], sums),
    )
    return of_groups, variance(1, squares, mapped, squares, mapped)
