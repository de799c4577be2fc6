"""Points of a cloud as they stream, without any check: count, mean and scatter in d² memory or less (NumPy)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.merging import invariants_of_sums
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import Target, scaled_target, usual_target, where_known, with_target
from isoscore_star.core.spread import FewPoints, Scatter, Spread, largest_entry

FloatArray = NDArray[np.float64]

# Rows that are centred and multiplied at a time: enough that the d² work of merging is small beside the product.
BLOCK_ROWS = 8192

_FARTHEST = 2.0**1021
"""Points nearer to zero than this, an eighth of the range of floats, have differences of means that do not overflow."""


class Accumulator:
    """What `isoscore_star.Moments` and the NumPy backend collect points in."""

    def __init__(self) -> None:
        self.dim: int | None = None
        self._scatter: Scatter | None = None
        # Rows that are too few to be multiplied yet.
        self._waiting: list[NDArray[Any]] = []
        self._few: FewPoints | None = None  # all of them, once a score was asked for

    @property
    def count(self) -> int:
        """Number of points so far."""
        return (self._scatter.count if self._scatter else 0) + sum(map(len, self._waiting))

    def invariants(self, shrinkage_cov: FloatArray | None = None, *, fourth_order: bool = False) -> Invariants:
        """Return the invariants that scores are made of, for code that builds on moments (backends, `measure`)."""
        spread = self.spread()
        fourth = np.float64(spread.fourth) if fourth_order else None
        total, squares, dim = np.float64(spread.total), np.float64(spread.squares), len(spread.anchor)
        found, scale = invariants_of_sums(spread.count, spread.unit, total, squares, fourth, dim, where_known)
        found = found._replace(precision=spread.precision)
        if shrinkage_cov is None:
            return found
        target = target_of(shrinkage_cov)
        return with_target(found, target, spread.inner(target.matrix) / scale / target.divisor)

    def spread(self) -> Spread:
        """Return the points about their mean, for code that builds on moments (the standard error)."""
        if self._scatter is not None:
            if self._waiting:
                self._scatter.merge(Scatter(_joined(self._waiting)))
                self._waiting = []
            return self._scatter
        if self._few is None:
            self._few = FewPoints(_joined(self._waiting or [np.empty((0, self.dim or 0))]))
        return self._few

    def absorb(self, rows: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> None:
        """Take in an (m, d) array without any check or copy, block by block; a memory-mapped one is read as it goes."""
        self.dim = rows.shape[1]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            if keep is not None:
                block = block[keep[start : start + BLOCK_ROWS]]
            if len(block):
                self._wait(block)

    def add(self, other: Accumulator) -> None:
        """Take in the points of another one, which is left as it is."""
        self.dim = other.dim
        if other._scatter is not None:
            self._merge(other._scatter)
        for rows in list(other._waiting):
            self._wait(rows)

    def own(self) -> None:
        """Copy what is still the caller's, who may change it later."""
        self._waiting = [rows.copy() for rows in self._waiting]

    def is_finite(self) -> bool:
        """Return whether all points are, and near enough to zero for their differences to be."""
        done = self._scatter
        if done is not None and not (math.isfinite(done.total) and largest_entry(done.anchor) < _FARTHEST):
            return False
        return all(largest_entry(rows) < _FARTHEST for rows in self._waiting)

    def _wait(self, rows: NDArray[Any]) -> None:
        """Keep rows until there are enough to be worth a product: of d rows, or fewer once d × d numbers are kept."""
        waiting, width = [*self._waiting, rows], rows.shape[1]
        if sum(map(len, waiting)) >= (width if self._scatter is None else width // 4 + 1):
            self._merge(Scatter(_joined(waiting)), own=True)
            waiting = []
        self._few, self._waiting = None, waiting

    def _merge(self, scatter: Scatter, *, own: bool = False) -> None:
        self._few = None
        if self._scatter is None:
            self._scatter = scatter if own else scatter.copy()
        else:
            self._scatter.merge(scatter)


def target_of(shrinkage_cov: FloatArray, bound: float = 2.0**400) -> Target:
    """Bring Σ_S into range; one of usual size, between one over the bound and the bound, is not copied."""
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
    """Return the covariance (ddof = 1), d × d numbers."""
    with np.errstate(over="ignore"):
        # In two steps, since the square of a unit may leave the range where a variance does not.
        cov = spread.matrix() / (spread.count - 1) * spread.unit * spread.unit
    _require_range(spread, float(cov.diagonal().max()))
    return cov


def _require_range(spread: Spread, largest: float) -> None:
    if not math.isfinite(largest) or (largest < 2.0**-1022 and spread.total):
        leave = "underflow" if largest < 1 else "overflow"
        raise InvalidValueError(
            "X",
            f"variances of these values {leave}, so there is no covariance to give. Scores do not need one; for the "
            "covariance itself divide X by its largest value",
        )
