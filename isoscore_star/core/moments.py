"""Streaming moments of a cloud: count, mean, spread and every score, in d² memory or less (NumPy)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.accumulator import Accumulator, covariance
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.score import shrunk_score, unbiased_margin, unbiased_score
from isoscore_star.core.spread import mean_of

FloatArray = NDArray[np.float64]


class Moments(Accumulator):
    """Count, mean and scatter of points that arrive in batches, and every score of all of them.

    Batches, layers, devices and files merge exactly (`isoscore_star.core.formulas`), so a dataset of any size is
    measured in d² memory, and two processes exchange d² numbers instead of points. Fewer points than dimensions are
    stored unchanged, so that few very wide points need no d² memory. Blocks of float32 of 128 dimensions and more are
    multiplied in float32, all others in float64; sums are kept in float64.

    Attributes
    ----------
    count : int
        Unmasked points so far.
    dim : int or None
        Dimensions d; None before the first update.
    mean : ndarray of shape (d,), float64
        Their mean.
    cov : ndarray of shape (d, d), float64
        Their covariance (ddof = 1).

    Raises
    ------
    DegenerateDataError
        From ``mean`` before any point, from ``cov`` and the scores for fewer than two points.
    InvalidValueError
        From ``cov`` if variances leave the range of floats (the scores do not).

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
        return Moments().merge(self)

    def __repr__(self) -> str:
        return f"Moments(count={self.count}, dim={self.dim})"

    def update(self, X: Any, mask: Any = None) -> Moments:
        """Take in a batch of points.

        Parameters
        ----------
        X : array of shape (m, d) or (..., d), or a list of such arrays
            Of any installed framework; converted to NumPy, detached.
        mask : array of shape ``X.shape[:-1]``, optional
            1 or true for points, 0 or false for padding.

        Returns
        -------
        Moments
            This object, so that calls can be chained.

        Raises
        ------
        InvalidValueError
            If the values are not finite, or d differs from that of earlier batches; then the moments are unchanged.
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
        batch = Accumulator()
        for array, keep in zip(cloud.clouds, cloud.masks, strict=True):
            batch.absorb(to_numpy(array), None if keep is None else to_numpy(keep))
        if not batch._is_finite():
            value_checks.explain_non_finite(cloud)
        batch._own()
        self._add(batch)
        return self

    def merge(self, other: Moments) -> Moments:
        """Take in the points of other moments.

        Parameters
        ----------
        other : Moments
            Stays unchanged.

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
        self._add(other)
        return self

    def isoscore(self) -> float:
        """IsoScore of all points; see `isoscore_star.isoscore`."""
        return self.isoscore_star()

    def isoscore_star(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> float:
        """IsoScore* of all points; see `isoscore_star.isoscore_star`."""
        zeta = parameters.zeta(zeta, shrinkage_cov)
        dim = self._require_spread(2, "IsoScore*")
        target = None if shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, dim)
        return float(np.clip(shrunk_score(self.invariants(target), zeta, dim, np.where), 0.0, 1.0))

    def isoscore_unbiased(self) -> float:
        """Unbiased score of all points; see `isoscore_star.isoscore_unbiased`."""
        dim = self._require_spread(4, "the unbiased estimate")
        invariants = self.invariants(fourth_order=True)
        value_checks.positive_margin(float(unbiased_margin(invariants)), self.count, invariants.precision)
        return float(unbiased_score(invariants, dim, np.where, floored=False))

    def _require_spread(self, least: int, why: str) -> int:
        value_checks.enough_points(self.count, least, why)
        spread = self.spread()
        if not spread.total:
            raise value_checks.identical_points(self.count)
        return len(spread.anchor)
