"""Streaming moments of a cloud: count, mean, scatter and what the unbiased score needs, in d² memory (NumPy)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import _checks, _formulas, _value_checks
from isoscore_star._errors import InvalidTypeError, InvalidValueError
from isoscore_star._protocol import Invariants
from isoscore_star._score import shrunk_score, unbiased_margin, unbiased_score

FloatArray = NDArray[np.float64]

# Rows that are centred and multiplied at a time: enough that the d² work of merging is small beside the product.
BLOCK_ROWS = 8192
# Bytes of rows that are handled at a time between the products; some caches hold less, none that matters much less.
_CACHE = 2**19


class Moments:
    """Count, mean and scatter of points that arrive in batches, and every score of all of them.

    Batches, layers, devices and files merge exactly (`isoscore_star._formulas`), so a dataset of any size is measured
    in d² memory, and two processes exchange d² numbers instead of points. Blocks of float32 are multiplied in float32,
    all else in float64; sums are kept in float64.

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
        self.count = 0
        self._mean: Any = None
        self._scatter: Any = None
        # z and Σa² are kept in powers of this unit (about the standard deviation, a power of two), since fourth
        # powers leave float64's range long before second ones do.
        self._unit = 0.0
        self._third: Any = None
        self._fourth = 0.0
        self._precision = 0.0  # the coarsest machine precision among the blocks' products

    @property
    def dim(self) -> int | None:
        """Dimensions d, None before the first update."""
        return None if self._mean is None else len(self._mean)

    @property
    def mean(self) -> FloatArray:
        """Mean of the points, shape (d,)."""
        _value_checks.enough_points(self.count, 1, "a mean")
        return np.array(self._mean)

    @property
    def cov(self) -> FloatArray:
        """Covariance of the points (ddof = 1), shape (d, d)."""
        _value_checks.enough_points(self.count)
        return np.asarray(self._scatter / (self.count - 1))

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
        cloud = _checks.points(X, mask)
        if self.dim not in (None, cloud.dim):
            raise InvalidValueError(
                f"X: these moments are of {self.dim} dimensions; got points of {cloud.dim}. "
                "Use one Moments for each width"
            )
        _value_checks.mask_values(mask)
        to_numpy = cloud.backend.to_numpy
        batch = Moments()
        for array, keep in zip(cloud.clouds, cloud.masks, strict=True):
            batch.absorb(to_numpy(array), None if keep is None else to_numpy(keep))
        if batch.count and not (math.isfinite(batch._scatter.trace()) and math.isfinite(batch._fourth)):
            _value_checks.explain_non_finite(cloud)
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
        """
        if not isinstance(other, Moments):
            raise InvalidTypeError(f"other: expected Moments; got {type(other).__name__}. Use update for points")
        if other.dim is None:
            return self
        if self.dim not in (None, other.dim):
            raise InvalidValueError(f"other: expected moments of {self.dim} dimensions; got {other.dim}")
        self._precision = max(self._precision, other._precision)
        if self.count == 0:
            self.count, self._unit, self._fourth = other.count, other._unit, other._fourth
            self._mean, self._scatter, self._third = (
                other._mean.copy(),
                other._scatter.copy(),
                other._third.copy(),
            )
            return self
        if other.count:
            self._merge(other)
        return self

    def isoscore(self) -> float:
        """IsoScore of all points; see `isoscore_star.isoscore`."""
        return self.isoscore_star()

    def isoscore_star(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> float:
        """IsoScore* of all points; see `isoscore_star.isoscore_star`."""
        share = _checks.zeta(zeta, shrinkage_cov)
        self._require_spread(2, "IsoScore*")
        target = None if shrinkage_cov is None else _value_checks.shrinkage_target(shrinkage_cov, len(self._mean))
        return float(np.clip(shrunk_score(self.invariants(target), share, len(self._mean), np.where), 0.0, 1.0))

    def isoscore_unbiased(self) -> float:
        """Unbiased score of all points; see `isoscore_star.isoscore_unbiased`."""
        self._require_spread(4, "the unbiased estimate")
        invariants = self.invariants(fourth_order=True)
        _value_checks.positive_margin(float(unbiased_margin(invariants)), self.count, self._precision)
        return float(unbiased_score(invariants, len(self._mean), np.where, floored=False))

    def invariants(self, shrinkage_cov: FloatArray | None = None, *, fourth_order: bool = False) -> Invariants:
        """Give the invariants that scores are made of, for code that builds on moments (backends, `measure`)."""
        freedom = max(self.count - 1, 1)
        dim = len(self._mean)
        total = float(self._scatter.trace()) / freedom
        target_total = 0.0 if shrinkage_cov is None else float(shrinkage_cov.trace())
        scale = (total + target_total) / dim or 1.0
        sample = self._scatter / (freedom * scale)
        target = None if shrinkage_cov is None else shrinkage_cov / scale
        # In two steps, since unit⁴/σ² is in range though neither of its parts need be.
        fourth = self._fourth * (self._unit * self._unit / scale) ** 2 / freedom if fourth_order else None
        return Invariants(
            count=self.count,
            scale=np.float64(scale),
            t=np.float64(total / scale),
            f=np.vdot(sample, sample),
            q=fourth,
            cross=None if target is None else np.vdot(sample, target),
            t0=None if target is None else np.float64(target_total / scale),
            f0=None if target is None else np.vdot(target, target),
        )

    def third_and_fourth(self, unit: float) -> tuple[FloatArray, float]:
        """Give z = Σaᵢxᵢ and Σaᵢ² in powers of a unit of length, for the standard error."""
        ratio = self._unit / unit
        return self._third * ratio**3, self._fourth * ratio**4

    def absorb(self, rows: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> None:
        """Take in an (m, d) array without any check, block by block; a memory-mapped one is read as it goes."""
        if self._mean is None:
            dim = rows.shape[1]
            self._mean, self._scatter, self._third = np.zeros(dim), np.zeros((dim, dim)), np.zeros(dim)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            if keep is not None:
                block = block[keep[start : start + BLOCK_ROWS]]
            if len(block):
                self.merge(_moments_of_block(block))

    def _require_spread(self, least: int, why: str) -> None:
        _value_checks.enough_points(self.count, least, why)
        if not self._scatter.trace():
            raise _value_checks.identical_points(self.count)

    def _merge(self, other: Moments) -> None:
        n1, n2 = self.count, other.count
        mean: Any = _formulas.merged_mean(n1, self._mean, n2, other._mean)
        delta = other._mean - self._mean
        outer = delta * _formulas.merged_outer_factor(n1, n2)
        # The spread about the common mean too, since either side alone may have none (points that come one by one).
        spread = math.sqrt((self._scatter.trace() + other._scatter.trace() + outer @ delta) / ((n1 + n2) * len(mean)))
        unit = max(self._unit, other._unit, _power_of_two(spread))
        third, fourth = np.zeros_like(self._third), 0.0
        for part in (self, other):
            if unit:
                part_third, part_fourth = part._about(mean, unit)
                third, fourth = third + part_third, fourth + part_fourth
        self._scatter += other._scatter
        if delta.any():
            self._scatter += outer[:, None] * delta
        self.count, self._mean, self._unit = n1 + n2, mean, unit
        self._third, self._fourth = third, fourth

    def _about(self, mean: FloatArray, unit: float) -> tuple[FloatArray, float]:
        """Σaᵢxᵢ and Σaᵢ² of these points about another mean, in powers of another (larger) unit."""
        third, fourth = self.third_and_fourth(unit)
        h = (mean - self._mean) / unit
        ah = (self._scatter @ h) / unit / unit
        t = float(self._scatter.trace()) / unit / unit
        hh, hah, hz = float(h @ h), float(h @ ah), float(h @ third)
        fourth = _formulas.recentred_fourth(fourth, self.count, t, hh, hah, hz)
        return np.asarray(_formulas.recentred_third(third, self.count, t, h, ah, hh)), fourth  # type: ignore[arg-type]


def _power_of_two(spread: float) -> float:
    """Round a length up to a power of two, so that dividing by it rounds nothing; 0 stays 0 (and NaN is no unit)."""
    return 2.0 ** math.frexp(spread)[1] if spread and math.isfinite(spread) else 0.0


def centre(block: NDArray[Any]) -> tuple[NDArray[Any], FloatArray]:
    """Subtract the mean of at least one row, in float32 for float32 and in float64 for all else; give both."""
    precision = np.float32 if block.dtype == np.float32 else np.float64
    first = block[0].astype(precision)
    # Differences from a point of the cloud are exactly zero for equal points and exact for close ones: identical
    # points have no scatter at all, and a mean far from zero costs no digits.
    centred = np.empty(block.shape, precision)
    total = np.zeros(block.shape[1])
    for part in _parts(centred):
        np.subtract(block[part], first, out=centred[part], dtype=precision)
        sums: NDArray[Any] = np.ones(len(centred[part]), precision) @ centred[part]
        total += sums
    offset = (total / len(block)).astype(precision)
    centred -= offset
    return centred, first.astype(np.float64) + offset


def _parts(block: NDArray[Any]) -> Iterator[slice]:
    """Cut rows into parts that stay in a processor's cache from one operation to the next."""
    step = max(1, _CACHE // block[:1].nbytes)
    return (slice(start, start + step) for start in range(0, len(block), step))


def _moments_of_block(block: NDArray[Any]) -> Moments:
    moments = Moments()
    # Values that are not finite give NaN here, which whoever asked for the score explains.
    with np.errstate(invalid="ignore", over="ignore"):
        centred, moments._mean = centre(block)
        moments.count, dim = block.shape
        moments._precision = float(np.finfo(centred.dtype).eps)
        # X.T @ X of one and the same array is the symmetric product (syrk), half the work of a general one.
        moments._scatter = (centred.T @ centred).astype(np.float64)
        spread = math.sqrt(moments._scatter.trace() / centred.size)
        moments._third = np.zeros(dim)
        if not math.isfinite(spread):
            moments._fourth = math.nan
        elif spread:
            moments._unit = unit = _power_of_two(spread)
            for part in _parts(centred):
                squared_norms = np.einsum("ij,ij->i", centred[part], centred[part]) / unit / unit
                moments._third += squared_norms @ centred[part] / unit
                moments._fourth += float(np.vdot(squared_norms, squared_norms))
    return moments
