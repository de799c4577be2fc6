"""Streaming points, unchecked: count, mean and scatter in d² memory or less (NumPy)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.merging import invariants_of_sums
from isoscore_star.core.protocol import Invariants, Pair
from isoscore_star.core.scaling import Target, scaled_target, usual_target, where_known, with_target
from isoscore_star.core.spread import FewPoints, Scatter, Spread, inner_product, largest_entry

FloatArray = NDArray[np.float64]

BLOCK_ROWS = 8192
"""Rows that are centred and multiplied at a time: the product outweighs the d² work of merging."""

_LEAST_ROWS = 64
"""Rows that wait at least before they are multiplied with a scatter that there is: of few dimensions, what NumPy does
between two operations costs more than the product."""

_FARTHEST = 2.0**1021
"""For points nearer to zero than this, an eighth of the range of floats, differences of means do not overflow."""


class Accumulator:
    """The points of `isoscore_star.Moments`, or of one half of their groups, and of the NumPy backend."""

    def __init__(self) -> None:
        self.dim: int | None = None
        self.scatter: Scatter | None = None
        self.waiting: list[NDArray[Any]] = []  # rows that are not multiplied yet
        self._waiting_count = 0  # of these rows, which may be as many arrays: they are not counted again for each
        self._few: FewPoints | None = None  # the same, once a score was computed without a scatter

    @property
    def count(self) -> int:
        """Number of points so far."""
        return (self.scatter.count if self.scatter else 0) + self._waiting_count

    def invariants(self, shrinkage_cov: FloatArray | None = None, *, fourth_order: bool = False) -> Invariants:
        """Compute the invariants of the points so far."""
        spread = self.spread()
        fourth = np.float64(spread.fourth) if fourth_order else None
        total, squares, dim = np.float64(spread.total), np.float64(spread.squares), len(spread.anchor)
        invariants, scale = invariants_of_sums(spread.count, spread.unit, total, squares, fourth, dim, where_known)
        invariants = invariants._replace(precision=spread.precision)
        if shrinkage_cov is None:
            return invariants
        target = target_of(shrinkage_cov)
        return with_target(invariants, target, spread.inner(target.matrix) / scale / target.divisor)

    def spread(self) -> Spread:
        """Return the centred points so far, in the form for their number."""
        if self.scatter is not None:
            if self.waiting:
                self.scatter.merge(Scatter(_joined(self.waiting)))
                self.waiting, self._waiting_count = [], 0
            return self.scatter
        if self._few is None:
            self._few = FewPoints(_joined(self.waiting or [np.empty((0, self.dim or 0))]))
        return self._few

    def absorb(self, rows: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> None:
        """Take in an (m, d) array block by block, without check or copy; a memory-mapped one is read blockwise."""
        self.dim = rows.shape[1]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            if keep is not None:
                block = block[keep[start : start + BLOCK_ROWS]]
            if len(block):
                self._wait(block)

    def add(self, other: Accumulator) -> None:
        """Take in the points of another accumulator, which stays unchanged."""
        self.dim = other.dim
        if other.scatter is not None:
            self._merge(other.scatter)
        for rows in list(other.waiting):
            self._wait(rows)

    def own(self) -> None:
        """Copy rows that are views of the caller's arrays."""
        self.waiting = [rows.copy() for rows in self.waiting]

    def is_finite(self) -> bool:
        """Return whether all points and their differences are finite."""
        scatter = self.scatter
        if scatter is not None and not (math.isfinite(scatter.total) and largest_entry(scatter.anchor) < _FARTHEST):
            return False
        return all(largest_entry(rows) < _FARTHEST for rows in self.waiting)

    def _wait(self, rows: NDArray[Any]) -> None:
        """Keep rows until a product is worth it: d rows, or fewer once there is a scatter."""
        count, width = self._waiting_count + len(rows), rows.shape[1]
        if count >= (width if self.scatter is None else max(width // 4 + 1, _LEAST_ROWS)):
            self._merge(Scatter(_joined([*self.waiting, rows])), own=True)
            self.waiting, count = [], 0
        else:
            self.waiting.append(rows)
        self._few, self._waiting_count = None, count

    def _merge(self, scatter: Scatter, *, own: bool = False) -> None:
        self._few = None
        if self.scatter is None:
            self.scatter = scatter if own else scatter.copy()
        else:
            self.scatter.merge(scatter)


def pair_of(first: Accumulator, second: Accumulator) -> Pair:
    """Compute what the score of two halves depends on."""
    ours, its = first.invariants(), second.invariants()
    spread, other = first.spread(), second.spread()
    inner = 0.0
    if ours.t and its.t:  # both are d, the dimensions
        inner = inner_product(spread, other) / spread.total / other.total * float(ours.t * its.t)
    precision = max(spread.precision, other.precision)
    return Pair((ours.count, its.count), (ours.unit, its.unit), ours.t, its.t, np.float64(inner), precision)


def target_of(shrinkage_cov: FloatArray, bound: float = 2.0**400) -> Target:
    """Scale Σ_S; one whose mean variance lies between 1/bound and bound is not copied."""
    with np.errstate(over="ignore"):
        trace = shrinkage_cov.trace()
    usual = usual_target(shrinkage_cov, trace, _squares, bound)
    return usual or scaled_target(
        shrinkage_cov, np.abs(shrinkage_cov.diagonal()).max(), np.trace, _squares, where_known
    )


def _squares(matrix: FloatArray) -> Any:
    return np.vdot(matrix, matrix)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def covariance(spread: Spread) -> FloatArray:
    """Return the covariance (ddof = 1), requiring that it is in range."""
    with np.errstate(over="ignore"):
        # By the unit twice, since its square may leave the range where a variance does not.
        cov = spread.matrix() / (spread.count - 1) * spread.unit * spread.unit
    largest = float(cov.diagonal().max())
    if not math.isfinite(largest) or (largest < 2.0**-1022 and spread.total):
        leave = "underflow" if largest < 1 else "overflow"
        raise InvalidValueError(
            "X",
            f"variances of these values {leave}, so there is no covariance to give. Scores do not need one; for the "
            "covariance itself divide X by its largest value",
        )
    return cov
