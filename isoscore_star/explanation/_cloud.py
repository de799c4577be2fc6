"""A cloud's covariances in units of their traces, and the eigenvectors of all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigvalsh

from isoscore_star.core import formulas
from isoscore_star.core.moments import Moments
from isoscore_star.core.spread import Spread

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cloud:
    """Covariances of trace 1: of all points and, if these came in groups, of the two halves of the groups.

    Attributes
    ----------
    count, dim : int
        Points and dimensions.
    mean_share : float
        ‖μ‖²/E‖x‖².
    mean_direction : ndarray of shape (d,)
        μ/‖μ‖, or zeros.
    cov : ndarray of shape (d, d)
        S/tr S.
    halves : pair of such arrays, or None
        A/tr A and B/tr B.
    precision : float
        Relative rounding of an entry.
    """

    count: int
    dim: int
    mean_share: float
    mean_direction: FloatArray
    cov: FloatArray
    halves: tuple[FloatArray, FloatArray] | None
    precision: float

    @classmethod
    def of(cls, spread: Spread, halves: tuple[Spread, Spread] | None) -> Cloud:
        """Return the covariances of centred points."""
        pair = None
        if halves is not None and all(half.total > 0 for half in halves):
            pair = (halves[0].matrix() / halves[0].total, halves[1].matrix() / halves[1].total)
        return cls(
            spread.count,
            len(spread.anchor),
            *mean_of_unit(spread),
            spread.matrix() / spread.total,
            pair,
            spread.precision,
        )

    @cached_property
    def _eigen(self) -> tuple[FloatArray, FloatArray]:
        values, vectors = eigh(self.cov)
        return np.maximum(values[::-1], 0.0), np.ascontiguousarray(vectors[:, ::-1])

    @cached_property
    def spectrum(self) -> FloatArray:
        """The same eigenvalues, without the work for their vectors, shape (d,)."""
        if "_eigen" in vars(self):
            return self.eigenvalues
        return np.asarray(np.maximum(eigvalsh(self.cov)[::-1], 0.0))

    @property
    def eigenvalues(self) -> FloatArray:
        """Fractions of the variance, largest first, shape (d,)."""
        return self._eigen[0]

    @property
    def eigenvectors(self) -> FloatArray:
        """Their directions as columns, shape (d, d)."""
        return self._eigen[1]

    @cached_property
    def rotated(self) -> tuple[FloatArray, ...]:
        """The halves in the basis of the eigenvectors; empty without halves."""
        vectors = self.eigenvectors
        return tuple(vectors.T @ half @ vectors for half in self.halves or ())

    def score(self, trace: float, squares: float) -> float:
        """Return the score of a covariance of d dimensions; 0 of one without variance."""
        return score_of(trace, squares, self.dim)


def score_of(trace: float, squares: float, dim: int) -> float:
    """Return the score of a covariance from tr S and ‖S‖²; 0 of one without variance."""
    if trace <= 0 or squares <= 0:
        return 0.0
    return formulas.score_from_participation_ratio(max(1.0, trace / squares * trace), dim)


def mean_of_unit(spread: Spread) -> tuple[float, FloatArray]:
    """Return ‖μ‖²/E‖x‖² and μ/‖μ‖, in the spread's unit, in which neither leaves the range of floats."""
    mean = spread.anchor / spread.unit + spread.offset
    largest = float(np.abs(mean).max())
    if not largest:
        return 0.0, np.zeros_like(mean)
    scaled = mean / largest
    own = float(scaled @ scaled)
    return own / (own + spread.total / spread.count / largest / largest), scaled / math.sqrt(own)


def halves_of(moments: Moments) -> tuple[Spread, Spread] | None:
    """Return copies of the two halves of moments whose points came in groups."""
    if moments.group_count is None:
        return None
    first, second = (moments.half(number).spread().copy() for number in (0, 1))
    return first, second


def defined(score: float) -> float | None:
    """Return a score, or None for one that is not finite."""
    return score if math.isfinite(score) else None
