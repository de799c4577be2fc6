"""`measure`: the scores of a cloud, their standard error, and what explains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, formulas
from isoscore_star.core.accumulator import covariance
from isoscore_star.core.errors import DegenerateDataError, InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import group_labels
from isoscore_star.core.moments import Moments
from isoscore_star.core.spread import Spread, mean_of
from isoscore_star.core.standard_error import grouped_jackknife, jackknife

COVERED_FRACTION = 0.25
"""From this many points, as a fraction of the dimensions, ±1.96 standard errors cover the true score in 93 to 97 % of
samples of independent points, heavy tails included (``paper_checks``, claim 5)."""

BIAS_FRACTION = 0.4
"""A bias of this fraction of the standard error lowers the coverage of the interval from 95 to 93 %."""


class OutlierDimension(NamedTuple):
    """A dimension with at least five times the average variance.

    Attributes
    ----------
    dimension : int
        Its index, counted from 0.
    variance_share : float
        Its variance as a fraction of the total, at least 5/d.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(200, 50)) * np.r_[10.0, np.ones(49)]
    >>> dimension, share = iso.measure(points).outlier_dimensions[0]
    >>> dimension, round(share, 2)
    (0, 0.67)
    """

    dimension: int
    variance_share: float


@dataclass(frozen=True, eq=False)
class Measurement:
    """Result of `measure`.

    Attributes
    ----------
    score : float
        IsoScore*, in [0, 1] (IsoScore for ζ = 0).
    unbiased_score : float or None
        Score without the bias of a small sample; None where it is undefined (fewer than four points, or a denominator
        that is not positive).
    standard_error : float or None
        Jackknife standard error of `unbiased_score`.
    effective_dimensions : float
        Participation ratio of `unbiased_score`, or of `score` where that is None: between 1 and d (an unbiased one may
        lie a little outside).
    count, dim : int
        Points measured, and their dimensions.
    mean, variances : ndarray of shape (d,), float64
        Of each dimension.
    cov : ndarray of shape (d, d), float64
        Sample covariance (ddof = 1), before shrinkage; computed on first access.
    spectrum : ndarray of shape (d,), float64
        Its eigenvalues, largest first; computed on first access.
    group_count : int or None
        Number of groups, if `groups` were given.
    group_bias : float or None
        Jackknife estimate of the bias of `unbiased_score` from dependence within groups, if `groups` were given.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> measurement = iso.measure(np.random.default_rng(0).normal(size=(20, 10)))
    >>> measurement.count, measurement.dim, measurement.spectrum.shape
    (20, 10, (10,))
    >>> abs(measurement.effective_dimensions - iso.participation_ratio(measurement.unbiased_score, d=10)) < 1e-12
    True
    >>> sorted(measurement.to_dict())[:3]
    ['count', 'dim', 'effective_dimensions']
    """

    score: float
    unbiased_score: float | None
    standard_error: float | None
    effective_dimensions: float
    count: int
    dim: int
    _spread: Spread = field(repr=False)
    group_count: int | None = field(default=None, repr=False)
    group_bias: float | None = field(default=None, repr=False)
    _has_rows: bool = field(default=True, repr=False)

    # A dimension is an outlier if its variance is at least this many times the average one (Rudman, Chen & Eickhoff,
    # *Outlier Dimensions Encode Task-Specific Knowledge*, EMNLP 2023).
    OUTLIER_FACTOR: ClassVar[float] = 5.0

    @classmethod
    def from_moments(
        cls,
        moments: Moments,
        rows: NDArray[Any] | None = None,
        groups: NDArray[Any] | None = None,
        shrinkage_cov: Any = None,
        zeta: float = 0.0,
    ) -> Measurement:
        """Measure points by their moments.

        Parameters
        ----------
        moments : Moments
            Of all points.
        rows : ndarray of shape (s, d), optional
            All points or a uniform random sample of them, in any order, for the standard error.
        groups : ndarray of shape (s,), optional
            A label for each row, if `rows` are all points; see `measure`.
        shrinkage_cov, zeta :
            See `measure`.

        Returns
        -------
        Measurement
            Without `rows`, `standard_error` is None.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            As `isoscore_star.isoscore_star`; also if `rows` or `groups` do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import isoscore_star as iso
        >>> moments, batches = iso.Moments(), np.random.default_rng(0).normal(size=(10, 200, 50))
        >>> for batch in batches:
        ...     moments = moments.update(batch)
        >>> iso.Measurement.from_moments(moments, batches[0]).unbiased_score == iso.measure(moments).unbiased_score
        True
        """
        if not isinstance(moments, Moments):
            raise InvalidTypeError("moments", f"expected Moments; got {type(moments).__name__}. measure takes points")
        score = moments.isoscore_star(shrinkage_cov, zeta)
        spread = moments.spread()
        dim = len(spread.anchor)
        if rows is not None:
            rows, groups = _sample(rows, groups, moments.count, dim)
        elif groups is not None:
            raise InvalidValueError("groups", "expected none without rows, to which they belong. Give both")
        try:
            unbiased: float | None = moments.isoscore_unbiased()
        except DegenerateDataError:
            unbiased = None
        error, bias = None, None
        if unbiased is not None and rows is not None:
            if groups is None:
                error = jackknife(moments, rows)
            else:
                error, bias = grouped_jackknife(moments, rows, groups)
        return cls(
            score=score,
            unbiased_score=unbiased,
            standard_error=error,
            effective_dimensions=formulas.participation_ratio(score if unbiased is None else unbiased, dim),
            count=moments.count,
            dim=dim,
            _spread=spread.copy(),
            group_count=None if groups is None else len(np.unique(groups)),
            group_bias=bias,
            _has_rows=rows is not None,
        )

    def __eq__(self, other: object) -> bool:
        """Compare scores, counts, means and variances."""
        if not isinstance(other, Measurement):
            return NotImplemented
        arrays = ((self.mean, other.mean), (self.variances, other.variances))
        return self._key() == other._key() and all(np.array_equal(ours, theirs) for ours, theirs in arrays)

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[float | int | None, ...]:
        return (*self._numbers().values(), self.group_count, self.group_bias)

    def _numbers(self) -> dict[str, float | int | None]:
        names = ("score", "unbiased_score", "standard_error", "effective_dimensions", "count", "dim")
        return {name: getattr(self, name) for name in names}

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the points, shape (d,)."""
        return mean_of(self._spread)

    @property
    def variances(self) -> NDArray[np.float64]:
        """Variance of each dimension, shape (d,)."""
        return self._spread.diagonal() / (self.count - 1) * self._spread.unit * self._spread.unit

    @cached_property
    def cov(self) -> NDArray[np.float64]:
        """Sample covariance (ddof = 1), shape (d, d)."""
        return covariance(self._spread)

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """Eigenvalues of the sample covariance, largest first, shape (d,)."""
        return self._spread.eigenvalues() / (self.count - 1) * self._spread.unit * self._spread.unit

    @property
    def outlier_dimensions(self) -> tuple[OutlierDimension, ...]:
        """Dimensions with at least five times the average variance, largest first."""
        fractions = self._spread.diagonal() / self._spread.total
        large = [i for i in np.argsort(fractions)[::-1] if fractions[i] * self.dim >= self.OUTLIER_FACTOR]
        return tuple(OutlierDimension(int(i), float(fractions[i])) for i in large)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind in these numbers, in sentences."""
        warnings = []
        if self.count < self.dim:
            advice = "" if self.unbiased_score is None else "; trust the unbiased score"
            warnings.append(
                f"fewer points ({self.count}) than dimensions ({self.dim}): IsoScore without shrinkage is far too low "
                f"here{advice}"
            )
        if self.unbiased_score is None:
            warnings.append("too few points for the unbiased score")
        elif not self._has_rows:
            warnings.append("no standard error, which needs the points themselves, or a random sample of them")
        elif self.standard_error is None:
            warnings.append("too few points or groups for a standard error")
        elif doubt := self._doubt_of_interval(self.standard_error):
            warnings.append(f"an interval of ±1.96 standard errors is no 95 % interval here: {doubt}")
        return tuple(warnings)

    def _doubt_of_interval(self, error: float) -> str:
        """Return why the interval's coverage is too low, or nothing."""
        if self.group_count is not None and self.group_count < self.dim:
            return f"fewer groups ({self.group_count}) than dimensions ({self.dim})"
        if self.group_bias is not None and abs(self.group_bias) > BIAS_FRACTION * error:
            return (
                f"points that belong together bias the unbiased score by about {self.group_bias:+.2g}, which more "
                "groups would lessen"
            )
        if self.count < COVERED_FRACTION * self.dim:
            return "fewer points than a quarter of the dimensions"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            **self._numbers(),
            "outlier_dimensions": [outlier._asdict() for outlier in self.outlier_dimensions],
            "warnings": list(self.warnings),
        }


def measure(
    X: Any, shrinkage_cov: Any = None, zeta: float = 0.0, *, mask: Any = None, groups: Any = None
) -> Measurement:
    """Measure a cloud: IsoScore*, the unbiased score with its standard error, and what explains them.

    Parameters
    ----------
    X : array of shape (m, d) or (..., d), or a list or tuple of such arrays, or Moments
        Points as rows; see `isoscore_star.isoscore`. Computed in NumPy for every framework. Moments give all but the
        standard error; see `Measurement.from_moments`.
    shrinkage_cov, zeta :
        Σ_S and ζ, which only `score` depends on; see `isoscore_star.isoscore_star`.
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for points, 0 or false for padding.
    groups : array of shape ``X.shape[:-1]``, optional
        A label for each point. The standard error leaves out points of one label (tokens of one sentence) together;
        without labels points count as independent. For a list: a list of arrays.

    Returns
    -------
    Measurement
        Scores, standard error, effective dimensions, spectrum, outlier dimensions.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_star`; also if `groups` does not fit X.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(200, 50)) * np.r_[10.0, np.ones(49)]
    >>> measurement = iso.measure(points)
    >>> round(measurement.score, 3), round(measurement.unbiased_score, 3), round(measurement.standard_error, 3)
    (0.025, 0.025, 0.003)
    >>> [outlier.dimension for outlier in measurement.outlier_dimensions]
    [0]
    """
    if isinstance(X, Moments):
        for name, value in (("mask", mask), ("groups", groups)):
            if value is not None:
                raise InvalidValueError(name, "expected none with Moments, whose points are summed. Leave it out")
        return Measurement.from_moments(X, None, None, shrinkage_cov, zeta)
    cloud = checks.points(X, mask)
    labels = group_labels(groups, X)
    moments = Moments().update(X, mask)
    kept_labels = None
    if labels is not None:
        pairs = zip(labels, cloud.masks, strict=True)
        kept_labels = np.concatenate([g if keep is None else g[cloud.backend.to_numpy(keep)] for g, keep in pairs])
    return Measurement.from_moments(moments, np.concatenate(cloud.rows()), kept_labels, shrinkage_cov, zeta)


def _sample(rows: Any, groups: Any, count: int, dim: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Require the points that the moments are of, or some of them, and labels of all."""
    points = checks.points(rows)
    sample = np.concatenate(points.rows())
    if points.dim != dim or not 2 <= len(sample) <= count or not np.isfinite(sample).all():
        raise InvalidValueError(
            "rows",
            f"expected 2 to {count} finite points of {dim} dimensions, a sample of those that the moments are of; "
            f"got {len(sample)} of {points.dim}",
        )
    labels = group_labels(groups, rows)
    if labels is not None and len(sample) != count:
        raise InvalidValueError("groups", f"expected labels of all {count} points; got rows for {len(sample)}")
    return sample, None if labels is None else np.concatenate(labels)
