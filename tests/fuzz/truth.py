"""What is right, in 80-bit long double and without a line of the library's: centred points, scores and gradients.

Long double has 11 more binary digits than float64 and reaches from 1e-4932 to 1e4932, so that neither rounding nor the
range of float64 shows here: points are differences to one of float64 (rounded once, relative to the difference), made
to sum to zero once more, and fourth powers of 1e±308 are in range.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

L = np.longdouble
PRECISE = np.finfo(L).eps < 2e-19  # not so where long double is float64 (Windows, some ARM)

# Relative error of T, F and Q that is allowed: some hundred ε in float64, some ten in float32, see `Sample.unbiased`.
ROUNDING = {"float64": 1e-13, "float32": 2e-6, "half": 1e-4}


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """Give the float64 values of an array in a dtype, bfloat16 too: float32 with 16 bits less, to the nearest even."""
    if dtype != "bfloat16":
        return array.astype(dtype).astype(np.float64)
    bits = array.astype(np.float32).view(np.uint32)
    even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    nearest = (even & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    return np.where(np.isfinite(array), nearest, array.astype(np.float64))


class Sample:
    """Points that count, (n, d) of float64, and what is right for them."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        self.n, self.d = points.shape
        self.finite = bool(np.isfinite(points).all())
        self.identical = self.n > 0 and not (points != points[:1]).any()

    @cached_property
    def centred(self) -> Any:
        x = self.points.astype(L)
        for _ in range(2):
            x = x - x.mean(axis=0).astype(np.float64).astype(L)
        return x - x.mean(axis=0)

    @cached_property
    def cov(self) -> Any:
        return self.centred.T @ self.centred / (self.n - 1)

    @cached_property
    def norms(self) -> Any:
        return (self.centred * self.centred).sum(axis=1)

    @cached_property
    def t(self) -> Any:
        return self.norms.sum() / (self.n - 1)

    @cached_property
    def f(self) -> Any:
        product = self.cov * (self.n - 1) if self.n >= self.d else self.centred @ self.centred.T
        return (product * product).sum() / L(self.n - 1) ** 2

    @cached_property
    def q(self) -> Any:
        return (self.norms * self.norms).sum() / (self.n - 1)

    @property
    def spread(self) -> Any:
        """Root mean square of what is left of the mean."""
        return np.sqrt(self.t / self.d)

    def score(self, target: Any = None, zeta: Any = 0.0, *, degenerate: bool = False) -> Any:
        """IsoScore* as T²/F of Σ; with `degenerate` S counts as zero."""
        z = L(zeta)
        if target is None or z == 0:
            return L(0) if degenerate else (self.t**2 / self.f - 1) / (self.d - 1)
        target = target.astype(L)
        t, f = z * target.trace(), z * z * (target * target).sum()
        if not degenerate:
            cross = (self.cov * target).sum() if self.n >= self.d else ((self.centred @ target) * self.centred).sum()
            cross = cross if self.n >= self.d else cross / (self.n - 1)
            t, f = t + (1 - z) * self.t, f + (1 - z) ** 2 * self.f + 2 * z * (1 - z) * cross
        return (t * t / f - 1) / (self.d - 1) if f else L(0)

    def score_gradient(self, target: Any = None, zeta: Any = 0.0) -> tuple[Any, Any]:
        """∂IsoScore*/∂X = 4(1−ζ)/((m−1)(d−1))·(r·Xc − r²·Xc·Σ), and the size of the terms that may cancel in it."""
        z, x = L(zeta), self.centred
        mapped = (1 - z) * (x @ self.cov if self.n >= self.d else (x @ x.T) @ x / (self.n - 1))
        t, f = (1 - z) * self.t, (1 - z) ** 2 * self.f
        if target is not None and z > 0:
            target = target.astype(L)
            by_target = x @ target
            cross = (by_target * x).sum() / (self.n - 1)
            t, f = t + z * target.trace(), f + 2 * z * (1 - z) * cross + z * z * (target * target).sum()
            mapped = mapped + z * by_target
        r, factor = t / f, 4 * (1 - z) / (L(self.n - 1) * (self.d - 1))
        return factor * (r * x - r * r * mapped), factor * max(r * abs(x).max(), r * r * abs(mapped).max())

    @cached_property
    def squares(self) -> tuple[Any, Any, Any, Any]:
        """Unbiased (tr Σ)² and tr(Σ²), without their common factor, and the largest of each one's terms."""
        m = L(self.n)
        first = np.array([2 * self.f, (m * m - 3 * m + 1) * self.t**2, -m * self.q])
        second = np.array([(m - 1) * (m - 2) * self.f, self.t**2, -m * self.q])
        return first.sum(), second.sum(), abs(first).max(), abs(second).max()

    @property
    def floor(self) -> Any:
        """What the training path divides by at least: a quarter of what isotropic points would give."""
        m = L(self.n)
        return (m - 1) ** 2 * (m - 2) * self.f / (4 * (m - 1 + self.d))

    @property
    def margin(self) -> float:
        """tr(Σ²) relative to its largest term: so much is left after the terms cancel."""
        _, denominator, _, size = self.squares
        return float(denominator / size)

    def denominator(self, rounding: float, *, floored: bool) -> tuple[Any, Any]:
        """What the unbiased PR divides by, and the relative error ΔD/|D| that rounding may give it."""
        _, denominator, _, size = self.squares
        if floored and denominator < self.floor:
            # A multiple of F, so no difference; unless rounding decides which of the two it is.
            close = abs(denominator - self.floor) < 8 * rounding * size
            denominator, size = self.floor, size if close else self.floor
        return denominator, 4 * rounding * size / abs(denominator) if denominator else L(np.inf)

    def unbiased(self, rounding: float, *, floored: bool = False) -> tuple[Any, float]:
        """Unbiased score, and how far rounding may carry it.

        PR = N/D. Each is a sum of three terms, of which each may be off by η of itself (T, F and Q by η, T² by 2η), so
        ΔN ≤ 4η·N₁ and ΔD ≤ 4η·D₁ with N₁ and D₁ the largest terms. Then with κ = ΔD/|D| < 1

            |ΔPR| ≤ (ΔN + |PR|·ΔD)/(|D| − ΔD) = (4η·N₁/|D| + |PR|·κ)/(1 − κ)

        and the score's error is that over d − 1. With κ ≥ ½ nothing is promised: the bound is infinite, and whoever
        gives a number must have it to half its size.
        """
        numerator, _, n1, _ = self.squares
        denominator, kappa = self.denominator(rounding, floored=floored)
        ratio = numerator / denominator if denominator else L(np.inf)
        score = (ratio - 1) / (self.d - 1)
        if not kappa < 0.5:
            return score, np.inf
        return score, float((4 * rounding * n1 / abs(denominator) + abs(ratio) * kappa) / (1 - kappa) / (self.d - 1))

    def unbiased_gradient(self, *, floored: bool = False) -> tuple[Any, Any]:
        """Gradient of N/D by that of T, F and Q, and the size of its terms.

        ∂T/∂xᵢ = 2xᵢ/(m−1), ∂F/∂xᵢ = 4·S·xᵢ/(m−1), ∂Q/∂xᵢ = 4(aᵢxᵢ − z/m)/(m−1), with aᵢ = ‖xᵢ‖² and z = Σ aᵢxᵢ.
        """
        m, x, t = L(self.n), self.centred, self.t
        numerator, denominator, _, _ = self.squares
        on_n = np.array([2 * t * (m * m - 3 * m + 1), L(2), -m])
        on_d = np.array([2 * t, (m - 1) * (m - 2), -m])
        if floored and denominator < self.floor:
            denominator, on_d = self.floor, np.array([L(0), self.floor / self.f, L(0)])
        ratio = numerator / denominator
        by_norm = self.norms[:, None] * x
        parts = (
            2 * x / (m - 1),
            4 * (x @ self.cov if self.n >= self.d else (x @ x.T) @ x / (m - 1)) / (m - 1),
            4 * (by_norm - by_norm.mean(axis=0)) / (m - 1),
        )
        unit = 1 / (denominator * (self.d - 1))
        slopes = (on_n - ratio * on_d) * unit
        sizes = (abs(on_n) + abs(ratio * on_d)) * abs(unit)
        gradient = sum(slope * part for slope, part in zip(slopes, parts, strict=True))
        return gradient, max(size * abs(part).max() for size, part in zip(sizes, parts, strict=True))


def score_of_cov(cov: np.ndarray) -> Any:
    cov = cov.astype(L)
    return (cov.trace() ** 2 / (cov * cov).sum() - 1) / (len(cov) - 1)


def score_of_spectrum(values: np.ndarray) -> Any:
    values = values.astype(L)
    return (values.sum() ** 2 / (values * values).sum() - 1) / (len(values) - 1)


def jackknife(points: np.ndarray) -> float | None:
    """Leave out each point in turn; None where one of the rest has no positive estimate."""
    scores = []
    for i in range(len(points)):
        rest = Sample(np.delete(points, i, axis=0))
        if rest.identical or rest.n < 4 or rest.margin < 1e-10:
            return None
        scores.append(rest.unbiased(0.0)[0])
    return float(np.sqrt((len(points) - 1) * np.var(np.array(scores))))
