"""Jackknife standard error of the unbiased score: leave out each point, or each group of points, in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import formulas
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.moments import Moments
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import rounding_of_margin, unbiased_margin, unbiased_score

FloatArray = NDArray[np.float64]


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


def grouped_jackknife(moments: Moments, rows: NDArray[Any], groups: NDArray[Any]) -> tuple[float | None, float | None]:
    """Estimate standard error and bias by leaving out each group of points (of one sentence), which `groups` labels.

    By the pseudo-values of Busing, Meijer & van der Leeden, *Delete-m Jackknife for Unequal m* (Statistics and
    Computing 9, 1999), which for groups of equal size is the usual jackknife. The bias comes from dependence within
    groups. Both are None for fewer than two groups, or where leaving one out leaves no estimate.
    """
    labels, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index))[:-1])
    if len(labels) < 2 or moments.count - max(map(len, members)) < 4:
        return None, None
    sums = _Sums(moments)
    full = float(sums.score(sums.count, sums.t, sums.f, sums.q))
    left_out = np.array([float(_leave_group_out(sums, sums.centred(rows[part]))) for part in members])
    inverse_fraction = sums.count / np.array([len(part) for part in members])
    mean = len(labels) * full - float(np.sum((1 - 1 / inverse_fraction) * left_out))
    pseudo = inverse_fraction * full - (inverse_fraction - 1) * left_out
    error = math.sqrt(float(np.mean((pseudo - mean) ** 2 / (inverse_fraction - 1))))
    return (error, full - mean) if math.isfinite(error) else (None, None)


def _leave_group_out(sums: _Sums, group: FloatArray) -> FloatArray:
    """Leave out a group of k points x: A loses Σxxᵀ + x̄x̄ᵀ·k²/(m−k), the mean moves by h = −x̄·k/(m−k)."""
    k = len(group)
    remaining = sums.count - k
    h = -group.sum(axis=0) / remaining
    lost = np.vstack([group, h * math.sqrt(remaining)])
    mapped = sums.times(lost)
    inner = lost @ lost.T
    t = sums.t - float(inner.trace())
    f = sums.f - 2 * float(np.vdot(mapped, lost)) + float(np.vdot(inner, inner))
    hah = float(mapped[-1] @ h) / math.sqrt(remaining)
    q_of_all = formulas.recentred_fourth(sums.q, sums.count, sums.t, float(h @ h), hah, float(h @ sums.z))
    q_of_group = float(np.sum(np.einsum("ij,ij->i", group - h, group - h) ** 2))
    return sums.score(remaining, t, f, q_of_all - q_of_group)
