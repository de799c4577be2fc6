"""How alike two clouds of corresponding points are, and their leading directions: CKA and principal angles.

With the centred scatters A and B, the cross-scatter C = Σ xᵢyᵢᵀ, and aᵢ = ‖xᵢ‖², bᵢ = ‖yᵢ‖²:

    CKA = ‖C‖²_F / (‖A‖_F·‖B‖_F)

(Kornblith, Norouzi, Lee & Hinton, *Similarity of Neural Network Representations Revisited*, ICML 2019: linear kernels,
whose inner products are ‖XᵀY‖²). Of few points it is too high. The other takes for each product the U-centred inner
product of Székely & Rizzo, *Partial distance correlation with methods for dissimilarities*, Ann. Statist. 42 (2014),
which is unbiased for independent points (Nguyen, Raghu & Kornblith, *Do Wide and Deep Networks Learn the Same
Things?*, ICLR 2021). Of centred points its sums over pairs come down to

    h(X, Y) = ‖C‖² − m/(m − 2)·Σ aᵢbᵢ + Σaᵢ·Σbᵢ/((m − 1)(m − 2))
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, subspace_angles, svd

from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.score import rounding_of_margin
from isoscore_star.core.sketch import SketchedSpread
from isoscore_star.core.spread import FewPoints, Spread, centred

FloatArray = NDArray[np.float64]

_LEAST = 4
"""Points that an unbiased estimate of a product of two covariances needs."""


class CrossSums:
    """Sums over pairs of corresponding points, taken in step once the moments of both clouds are known.

    d_a × d_b numbers or, if both clouds are stored as points since they have fewer than dimensions, their products.
    """

    def __init__(self, first: Spread, second: Spread) -> None:
        self._spreads = first, second
        self._stored: list[tuple[FloatArray, FloatArray]] | None = None
        if isinstance(first, FewPoints) and isinstance(second, FewPoints):
            self._stored = []
        else:
            self._cross = np.zeros((len(first.anchor), len(second.anchor)))
        self._count, self._fourth = 0, 0.0

    def take(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        """Take in corresponding points."""
        for start in range(0, len(first), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            x, y = (
                centred(spread, rows[part]) / math.sqrt(spread.total)
                for spread, rows in zip(self._spreads, (first, second), strict=True)
            )
            self._count += len(x)
            self._fourth += float(np.einsum("ij,ij->i", x, x) @ np.einsum("ij,ij->i", y, y))
            if self._stored is None:
                self._cross += x.T @ y
            else:
                self._stored.append((x, y))

    def cka(self) -> float:
        """Return linear CKA, from 0 to 1."""
        norms = (math.sqrt(spread.squares) / spread.total for spread in self._spreads)
        return min(1.0, self._squares() / math.prod(norms))

    def debiased(self) -> float | None:
        """Return CKA of U-centred products; None for fewer than four points, or of a product that is not positive."""
        m = self._count
        if m < _LEAST:
            return None
        own = []
        for spread in self._spreads:
            squares, fourth = spread.squares / spread.total**2, spread.fourth / spread.total**2
            product, terms = _centred_product(squares, fourth, m), squares + 2 * fourth + 2 / (m * m)
            if product <= terms * rounding_of_margin(m, spread.precision):
                return None
            own.append(product)
        found = _centred_product(self._squares(), self._fourth, m) / math.sqrt(math.prod(own))
        return min(1.0, max(-1.0, found))

    def _squares(self) -> float:
        """Return ‖C‖² in units of both total variances."""
        if self._stored is None:
            return float(np.vdot(self._cross, self._cross))
        x, y = (np.concatenate(rows) for rows in zip(*self._stored, strict=True))
        return float(np.vdot(x @ x.T, y @ y.T))


def _centred_product(squares: float, fourth: float, m: int) -> float:
    return squares - m / (m - 2) * fourth + 1 / ((m - 1) * (m - 2))


class Directions:
    """The leading directions of a cloud, shape (d, k), and the variances of these and one more, as shares."""

    def __init__(self, spread: Spread, most: int) -> None:
        dim = len(spread.anchor)
        if isinstance(spread, FewPoints):
            vectors, values, _ = svd((spread.rows() / math.sqrt(spread.total)).T, full_matrices=False)
            values = values**2
        elif isinstance(spread, SketchedSpread):
            found = spread.leading() / math.sqrt(spread.total)
            values = np.einsum("ij,ij->j", found, found)
            vectors = found / np.sqrt(np.where(values > 0, values, 1.0))
        else:
            least = max(0, dim - most - 1)
            values, vectors = eigh(spread.matrix() / spread.total, subset_by_index=[least, dim - 1])
            values, vectors = values[::-1], vectors[:, ::-1]
        self.shares: FloatArray = np.maximum(np.append(values, 0.0), 0.0)[: most + 1]  # of none left the share is 0
        floor = 8 * spread.precision * math.sqrt(spread.count) * float(self.shares[0])
        self.rank = int(np.count_nonzero(self.shares[:most] > floor))
        self.vectors: FloatArray = np.asarray(vectors[:, :most])

    def is_clear(self, k: int, count: int) -> bool:
        """Return whether a sample of so many points, or groups, tells the k-th direction from the next.

        So if their variances differ by more than two standard errors, each √(2/m) of a variance of normal points.
        """
        if k >= len(self.vectors):
            return True
        return bool(self.shares[k - 1] - self.shares[k] > 2 * math.sqrt(2 / count) * self.shares[k - 1])


def principal_angles(first: Directions, second: Directions, k: int) -> tuple[float, ...]:
    """Return the angles in degrees between the spans of the k leading directions, largest first."""
    return tuple(np.degrees(subspace_angles(first.vectors[:, :k], second.vectors[:, :k])).tolist())
