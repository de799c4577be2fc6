"""Streaming moments of a cloud: count, mean, spread and every score, in d² memory or less (NumPy)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, value_checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.merging import invariants_of_sums
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import Target, scaled_target, usual_target, where_known, with_target
from isoscore_star.core.score import shrunk_score, unbiased_margin, unbiased_score
from isoscore_star.core.spread import FewPoints, Scatter, Spread, largest_entry, mean_of

FloatArray = NDArray[np.float64]

# Rows that are centred and multiplied at a time: enough that the d² work of merging is small beside the product.
BLOCK_ROWS = 8192

_FARTHEST = 2.0**1021
"""Points nearer to zero than this, an eighth of the range of floats, have differences of means that do not overflow."""


class Moments:
    """Count, mean and scatter of points that arrive in batches, and every score of all of them.

    Batches, layers, devices and files merge exactly (`isoscore_star.core.formulas`), so a dataset of any size is
    measured in d² memory, and two processes exchange d² numbers instead of points. Fewer points than dimensions are
    kept as they are, so that a few very wide ones need little more memory than their own. Blocks of float32 of 128
    dimensions and more are multiplied in float32, all else in float64; sums are kept in float64.

    Attributes
    ----------
    count : int
        Points seen so far, without those that a mask leaves out.
    dim : int or None
        Dimensions d; None before the first update.
    mean : ndarray of shape (d,), float64
        Their mean.
    cov : ndarray of shape (d, d), float64
        Their covariance (ddof = 1).

    Raises
    ------
    DegenerateDataError
        By ``mean`` before any point, by ``cov`` and the scores for fewer than two points.
    InvalidValueError
        By ``cov`` if variances leave the range of floats (the scores do not).

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(1000, 8)) + 5
    >>> moments = iso.Moments()
    >>> for batch in np.split(points, 10):
    ...     moments.update(batch)
    Moments(count=100, dim=8)
    ...
    >>> abs(moments.isoscore() - iso.isoscore(points)) < 1e-12
    True
    """

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

    @property
    def mean(self) -> FloatArray:
        """Mean of the points, shape (d,)."""
        value_checks.enough_points(self.count, 1, "a mean")
        return mean_of(self.spread())

    @property
    def cov(self) -> FloatArray:
        """Covariance of the points (ddof = 1), shape (d, d)."""
        value_checks.enough_points(self.count)
        return covariance(self.spread())

    def __copy__(self) -> Moments:
        twin = Moments()
        return twin.merge(self)

    def __repr__(self) -> str:
        return f"Moments(count={self.count}, dim={self.dim})"

    def update(self, X: Any, mask: Any = None) -> Moments:
        """Take in a batch of points.

        Parameters
        ----------
        X : array of shape (m, d) or (..., d), or a list of such arrays
            Of any installed framework; brought to NumPy, detached.
        mask : array of shape ``X.shape[:-1]``, optional
            1 or true for points, 0 or false for padding, which counts for nothing.

        Returns
        -------
        Moments
            This object, so that calls can be chained.

        Raises
        ------
        InvalidValueError
            If the values are not finite, or d differs from that of earlier batches; nothing was taken in then.
        """
        cloud = checks.points(X, mask)
        if self.dim not in (None, cloud.dim):
            raise InvalidValueError(
                "X",
                f"these moments are of {self.dim} dimensions; got points of {cloud.dim}. "
                "Use one Moments for each width",
            )
        value_checks.mask_values(mask, cloud.backend)
        to_numpy = cloud.backend.to_numpy
        batch = Moments()
        for array, keep in zip(cloud.clouds, cloud.masks, strict=True):
            batch.absorb(to_numpy(array), None if keep is None else to_numpy(keep))
        if not batch._is_finite():
            value_checks.explain_non_finite(cloud)
        # The caller may change the arrays later.
        batch._waiting = [rows.copy() for rows in batch._waiting]
        return self.merge(batch)

    def merge(self, other: Moments) -> Moments:
        """Take in the points that other moments have seen, exactly.

        Parameters
        ----------
        other : Moments
            Left as it is.

        Returns
        -------
        Moments
            This object.

        Raises
        ------
        InvalidValueError
            If they are of another d.
        """
        if not isinstance(other, Moments):
            raise InvalidTypeError("other", f"expected Moments; got {type(other).__name__}. Use update for points")
        if other.dim is None:
            return self
        if self.dim not in (None, other.dim):
            raise InvalidValueError("other", f"expected moments of {self.dim} dimensions; got {other.dim}")
        self.dim = other.dim
        if other._scatter is not None:
            self._merge(other._scatter)
        for rows in list(other._waiting):
            self._wait(rows)
        return self

    def isoscore(self) -> float:
        """IsoScore of all points; see `isoscore_star.isoscore`."""
        return self.isoscore_star()

    def isoscore_star(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> float:
        """IsoScore* of all points; see `isoscore_star.isoscore_star`."""
        zeta = checks.zeta(zeta, shrinkage_cov)
        dim = self._require_spread(2, "IsoScore*")
        target = None if shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, dim)
        return float(np.clip(shrunk_score(self.invariants(target), zeta, dim, np.where), 0.0, 1.0))

    def isoscore_unbiased(self) -> float:
        """Unbiased score of all points; see `isoscore_star.isoscore_unbiased`."""
        dim = self._require_spread(4, "the unbiased estimate")
        invariants = self.invariants(fourth_order=True)
        value_checks.positive_margin(float(unbiased_margin(invariants)), self.count, invariants.precision)
        return float(unbiased_score(invariants, dim, np.where, floored=False))

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

    def _is_finite(self) -> bool:
        done = self._scatter
        if done is not None and not (math.isfinite(done.total) and largest_entry(done.anchor) < _FARTHEST):
            return False
        return all(largest_entry(rows) < _FARTHEST for rows in self._waiting)

    def _require_spread(self, least: int, why: str) -> int:
        value_checks.enough_points(self.count, least, why)
        spread = self.spread()
        if not spread.total:
            raise value_checks.identical_points(self.count)
        return len(spread.anchor)


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
