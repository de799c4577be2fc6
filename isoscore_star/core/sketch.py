"""⟨A, B⟩ of two scatters below d² memory: products with one Gaussian matrix, the leading directions taken out.

With Ω = (Ω₁, Ω₂), k columns of independent normal numbers in all, YA = AΩ streams in d·k memory. Â, the Nyström
approximation from AΩ₁, has the leading directions of A; Ω₂, which it does not depend on, estimates what it lacks:

    ⟨A, B⟩ ≈ ⟨Â, B̂⟩ + 1/k₂·Σⱼ (⟨Aωⱼ, Bωⱼ⟩ − ⟨Âωⱼ, B̂ωⱼ⟩)

is unbiased over Ω₂, since E⟨Mω, Nω⟩ = ⟨M, N⟩, and its error is that of a mean over the k₂ columns ωⱼ. Sources: Meyer,
Musco, Musco & Woodruff, *Hutch++*, SOSA 2021; Persson, Cortinovis & Kressner, *Improved variants of the Hutch++
algorithm*, SIAM J. Matrix Anal. Appl. 43 (2022), whose Nyström++ estimates traces of one matrix in one pass.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular, svd

from isoscore_star.core import formulas
from isoscore_star.core.errors import InvalidValueError

FloatArray = NDArray[np.float64]


class Inner(NamedTuple):
    """An estimate of ⟨A, B⟩ and its standard error over the sketch."""

    value: float
    error: float


@lru_cache(maxsize=4)
def gaussian(dim: int, size: int, seed: int) -> FloatArray:
    """Return Ω, shape (d, k), drawn once for all accumulators of a width."""
    return np.random.default_rng(seed).normal(size=(dim, size))


@dataclass(eq=False)
class SketchedScatter:
    """Sums over centred points: count, mean, the diagonal of A, and AΩ.

    Attributes
    ----------
    count : int
        Number of points.
    anchor, offset : ndarray of shape (d,)
        A point, and the mean less this point, so that a far mean costs no digits.
    variances : ndarray of shape (d,)
        Diagonal of A, exactly.
    product : ndarray of shape (d, k)
        AΩ.
    """

    count: int
    anchor: FloatArray
    offset: FloatArray
    variances: FloatArray
    product: FloatArray

    @classmethod
    def of_rows(cls, rows: NDArray[Any], omega: FloatArray) -> SketchedScatter:
        """Return the sums over a block of rows, which is not empty; of float32 rows the products are in float32."""
        precision: Any = np.float32 if rows.dtype == np.float32 else np.float64
        anchor = rows[0].astype(precision)
        moved = np.subtract(rows, anchor, dtype=precision)
        offset = moved.mean(axis=0, dtype=np.float64)
        moved -= offset.astype(precision)
        left = moved.mean(axis=0, dtype=np.float64)  # what rounding of the mean to float32 leaves
        product = np.asarray(moved.T @ (moved @ omega.astype(precision, copy=False)), np.float64)
        variances = np.einsum("ij,ij->j", moved, moved, dtype=np.float64)
        offset = offset.astype(precision).astype(np.float64) + left
        return cls(len(rows), anchor.astype(np.float64), offset, variances, product)

    @property
    def mean(self) -> FloatArray:
        """Mean of the points."""
        return self.anchor + self.offset

    @property
    def total(self) -> float:
        """Trace of A, exactly."""
        return float(self.variances.sum())

    def merge(self, other: SketchedScatter, omega: FloatArray) -> None:
        """Take in other points, whose sums stay unchanged: A = A₁ + A₂ + δδᵀ·n₁n₂/n, times Ω."""
        theirs = (other.anchor - self.anchor) + other.offset
        apart = theirs - self.offset
        factor = formulas.merged_outer_factor(self.count, other.count)
        self.product = self.product + other.product + np.outer(apart * factor, apart @ omega)
        self.variances = self.variances + other.variances + apart * apart * factor
        self.offset = formulas.merged_mean(self.count, self.offset, other.count, theirs)  # type: ignore[arg-type, assignment]
        self.count += other.count

    def copy(self) -> SketchedScatter:
        """Return sums that merging leaves unchanged; merging replaces arrays, and changes none."""
        return copy.copy(self)


def leading(scatter: SketchedScatter, omega: FloatArray) -> FloatArray:
    """Return L, d × k₁, of the Nyström approximation Â = LLᵀ, whose columns are orthogonal, largest first.

    The shift by ν and back is that of Tropp, Yurtsever, Udell & Cevher, *Fixed-rank approximation of a positive-
    semidefinite matrix from streaming data*, NeurIPS 2017, without which Ω₁ᵀAΩ₁ may not be positive by rounding.
    """
    first = omega[:, : omega.shape[1] // 2]
    product = scatter.product[:, : first.shape[1]]
    shift = math.sqrt(len(product)) * float(np.finfo(np.float32).eps) * float(np.linalg.norm(product, 2))
    if not shift:
        return np.zeros_like(first)
    shifted = product + shift * first
    core = first.T @ shifted
    root = cholesky((core + core.T) / 2, lower=False)
    vectors, values, _ = svd(solve_triangular(root, shifted.T, trans="T", lower=False).T, full_matrices=False)
    return np.asarray(vectors * np.sqrt(np.maximum(values**2 - shift, 0.0)))


def inner_of(
    ours: SketchedScatter, theirs: SketchedScatter, omega: FloatArray, own: FloatArray, its: FloatArray
) -> Inner:
    """Estimate ⟨A, B⟩ from AΩ and BΩ, and `leading` of both."""
    start = omega.shape[1] // 2
    second = omega[:, start:]
    exact = float(np.sum((own.T @ its) ** 2))
    left = np.einsum("ij,ij->j", ours.product[:, start:], theirs.product[:, start:])
    left -= np.einsum("ij,ij->j", own @ (own.T @ second), its @ (its.T @ second))
    return Inner(exact + float(left.mean()), float(left.std(ddof=1)) / math.sqrt(len(left)))


class SketchedSpread:
    """Sums with what follows from them; a form of `isoscore_star.core.spread.Spread` that has no matrix."""

    unit = 1.0

    def __init__(self, sums: SketchedScatter, omega: FloatArray) -> None:
        self._sums, self._omega = sums, omega
        self.count, self.anchor, self.offset = sums.count, sums.anchor, sums.offset
        self.precision = float(np.finfo(np.float32).eps)
        self._leading: FloatArray | None = None

    @property
    def size(self) -> int:
        """Columns of the sketch."""
        return int(self._omega.shape[1])

    @property
    def total(self) -> float:
        """Trace of A, exactly."""
        return self._sums.total

    @property
    def squares(self) -> float:
        """Estimate of ‖A‖²."""
        return max(0.0, self.with_other(self).value)

    @property
    def third(self) -> FloatArray:
        """Vector z, which a sketch does not keep."""
        raise _not_kept("the unbiased score of independent points", "Give each its own group: groups=numpy.arange(m)")

    @property
    def fourth(self) -> float:
        """Σ‖x‖⁴, which a sketch does not keep."""
        raise _not_kept("the unbiased score of independent points", "Give each its own group: groups=numpy.arange(m)")

    def with_other(self, other: SketchedSpread) -> Inner:
        """Estimate ⟨A, B⟩."""
        return inner_of(self._sums, other._sums, self._omega, self.leading(), other.leading())

    def leading(self) -> FloatArray:
        """Return the leading directions of A, times the roots of their eigenvalues, shape (d, k/2)."""
        if self._leading is None:
            self._leading = leading(self._sums, self._omega)
        return self._leading

    def squares_without(self, number: int) -> float:
        """Estimate ‖A‖² without the leading directions, from what is left of AΩ₂: no difference of large numbers."""
        directions = self.leading()[:, :number]
        directions = directions / np.linalg.norm(directions, axis=0)
        product = self._sums.product[:, self.size // 2 :]
        left = product - directions @ (directions.T @ product)
        return float(np.mean(np.einsum("ij,ij->j", left, left)))

    def times(self, rows: FloatArray) -> FloatArray:
        """Return rows·A, which a sketch does not know."""
        raise _not_kept("a standard error from the points", "Measure blocks: Measurement.from_blocks")

    def inner(self, matrix: FloatArray) -> float:
        """Estimate ⟨A, matrix⟩."""
        return float(np.vdot(self._sums.product, matrix @ self._omega)) / self.size

    def diagonal(self) -> FloatArray:
        """Return the diagonal of A, exactly."""
        return self._sums.variances

    def eigenvalues(self) -> FloatArray:
        """Estimate the k/2 leading eigenvalues of A, largest first."""
        return np.asarray(np.einsum("ij,ij->j", self.leading(), self.leading()))

    def matrix(self) -> FloatArray:
        """Return A, which a sketch does not know."""
        raise _not_kept("a covariance", "Take Moments() without sketch, in d² memory")

    def copy(self) -> SketchedSpread:
        """Return what merging leaves unchanged."""
        return self


def _not_kept(what: str, advice: str) -> InvalidValueError:
    return InvalidValueError("sketch", f"{what} needs more than a sketch keeps. {advice}")
