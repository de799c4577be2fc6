"""`measure`: the scores of a cloud, their standard error, and what explains them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, formulas
from isoscore_star.core.accumulator import covariance
from isoscore_star.core.errors import DegenerateDataError, InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import groups_of, numbers_of
from isoscore_star.core.moments import Moments
from isoscore_star.core.spread import Spread, mean_of
from isoscore_star.core.standard_error import grouped_jackknife, jackknife

COVERED_FRACTION = 0.25
"""From this many points, as a fraction of the dimensions, ±1.96 standard errors cover the true score in 93 to 97 % of
samples of independent points, heavy tails included (``paper_checks``, claim 5)."""

LEAST_GROUPS = 8
LARGEST_ERROR = 0.1
"""Up to this standard error of log PR, the interval of two halves covers the true score in 93 to 97 % of samples of
groups whose points differ less than groups do, with equal variances or steep ones, heavy tails included
(``paper_checks``, claim 5)."""


INDEPENDENT = "independent points"

_NORMAL = 1.96
"""95 % of a normal distribution lie within so many standard deviations."""


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
        Score without the bias of a small sample: of two halves of the groups, or for independent points. None where it
        is undefined (fewer than four groups or points, or a denominator that is not positive).
    standard_error : float or None
        Jackknife standard error of `unbiased_score`, from leaving out each group, or each independent point.
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
    groups : str
        What was taken for groups: ``"independent points"``, ``"axis 0"``, ``"labels"``, or ``"updates"`` of Moments.
    group_count : int or None
        Number of groups; None for independent points.
    independent_score : float or None
        The unbiased score as if the points of the groups were independent, which it then is not.
    design_effect : float or None
        How many times larger the variance of log PR is than if the points of the groups were independent.

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
    groups: str = field(default=INDEPENDENT, repr=False)
    group_count: int | None = field(default=None, repr=False)
    independent_score: float | None = field(default=None, repr=False)
    design_effect: float | None = field(default=None, repr=False)
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
            All points or, if they are independent, a uniform random sample of them, in any order, for the standard
            error.
        groups : ndarray of shape (s,), optional
            The number of each row's group in the moments, if `rows` are all points: numbers count on from update to
            update, and labels are numbered in their order.
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
            rows, groups = _sample(rows, groups, moments, dim)
        elif groups is not None:
            raise InvalidValueError("groups", "expected none without rows, to which they belong. Give both")
        independent = unbiased = _defined(moments.isoscore_unbiased, groups=None)
        if moments.group_count is not None:
            unbiased = _defined(moments.isoscore_unbiased)
        error, effect = None, None
        if unbiased is not None and rows is not None:
            if moments.group_count is None:
                error = jackknife(moments, rows)
            elif groups is not None and (found := grouped_jackknife(moments, rows, groups)):
                error = found.grouped * formulas.participation_ratio(unbiased, dim) / (dim - 1)
                effect = (found.grouped / found.independent) ** 2
        return cls(
            score=score,
            unbiased_score=unbiased,
            standard_error=error,
            effective_dimensions=formulas.participation_ratio(score if unbiased is None else unbiased, dim),
            count=moments.count,
            dim=dim,
            _spread=spread.copy(),
            groups=INDEPENDENT if moments.group_count is None else "updates",
            group_count=moments.group_count,
            independent_score=None if moments.group_count is None else independent,
            design_effect=effect,
            _has_rows=rows is not None and (moments.group_count is None or groups is not None),
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
        return (*self._numbers().values(), self.groups)

    def _numbers(self) -> dict[str, float | int | None]:
        names = ("score", "unbiased_score", "standard_error", "effective_dimensions", "count", "dim")
        grouped = ("group_count", "independent_score", "design_effect")
        return {name: getattr(self, name) for name in names + grouped}

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the score: ±1.96 standard errors, of log PR for groups; None without a standard error.

        `warnings` says where it covers less.
        """
        if self.unbiased_score is None or self.standard_error is None:
            return None
        if self.group_count is None:
            return (
                self.unbiased_score - _NORMAL * self.standard_error,
                self.unbiased_score + _NORMAL * self.standard_error,
            )
        ratio = formulas.participation_ratio(self.unbiased_score, self.dim)
        factor = math.exp(_NORMAL * self._log_error)
        low, high = (formulas.score_from_participation_ratio(end, self.dim) for end in (ratio / factor, ratio * factor))
        return low, high

    @property
    def _log_error(self) -> float:
        """Standard error of log PR."""
        ratio = formulas.participation_ratio(self.unbiased_score or 0.0, self.dim)
        return (self.standard_error or 0.0) * (self.dim - 1) / ratio

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
        if self.group_count is not None:
            if self.group_count < LEAST_GROUPS:
                return f"fewer groups ({self.group_count}) than {LEAST_GROUPS}"
            if self._log_error > LARGEST_ERROR:
                return (
                    f"the score may be off by {self._log_error:.0%} and more of its effective dimensions, which more "
                    f"groups than {self.group_count} would lessen"
                )
            return ""
        if self.count < COVERED_FRACTION * self.dim:
            return "fewer points than a quarter of the dimensions"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            **self._numbers(),
            "groups": self.groups,
            "interval": None if self.interval is None else list(self.interval),
            "outlier_dimensions": [outlier._asdict() for outlier in self.outlier_dimensions],
            "warnings": list(self.warnings),
        }


def measure(
    X: Any, shrinkage_cov: Any = None, zeta: float = 0.0, *, mask: Any = None, groups: Any = "auto"
) -> Measurement:
    """Measure a cloud: IsoScore*, the unbiased score with its standard error, and what explains them.

    Parameters
    ----------
    X : array of shape (sequences, tokens, d), (m, d) or (..., d), or a list or tuple of such arrays, or Moments
        Points as rows; see `isoscore_star.isoscore`. Computed in NumPy for every framework. Moments give all but the
        standard error; see `Measurement.from_moments`.
    shrinkage_cov, zeta :
        Σ_S and ζ, which only `score` depends on; see `isoscore_star.isoscore_star`.
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for points, 0 or false for padding.
    groups : "auto", int, array of shape ``X.shape[:-1]``, or None, default "auto"
        Which points were sampled together, such as the tokens of a sentence; see `isoscore_star.isoscore_unbiased`.
        The unbiased score is that of two halves of the groups, and its standard error leaves out each group.

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
        for name, value, default in (("mask", mask, None), ("groups", groups, "auto")):
            if not (value is default or (isinstance(value, str) and value == default)):
                raise InvalidValueError(name, "expected none with Moments, whose points are summed. Leave it out")
        return Measurement.from_moments(X, None, None, shrinkage_cov, zeta)
    cloud = checks.points(X, mask)
    found = groups_of(cloud, groups)
    numbers = None if found is None else numbers_of(cloud, found)
    moments = Moments().update(X, mask, groups)
    measured = Measurement.from_moments(moments, np.concatenate(cloud.rows()), numbers, shrinkage_cov, zeta)
    if found is None or numbers is None:
        return measured
    taken = "labels" if found.axis is None else f"axis {found.axis}"
    return replace(measured, groups=taken, group_count=len(np.unique(numbers)))


def _defined(score: Callable[..., float], **arguments: Any) -> float | None:
    try:
        return score(**arguments)
    except DegenerateDataError:
        return None


def _sample(rows: Any, groups: Any, moments: Moments, dim: int) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Require the points that the moments are of, or some of them, and numbers of the groups of all."""
    points, count = checks.points(rows), moments.count
    sample = np.concatenate(points.rows())
    if points.dim != dim or not 2 <= len(sample) <= count or not np.isfinite(sample).all():
        raise InvalidValueError(
            "rows",
            f"expected 2 to {count} finite points of {dim} dimensions, a sample of those that the moments are of; "
            f"got {len(sample)} of {points.dim}",
        )
    if groups is None:
        return sample, None
    numbers = np.asarray(groups)
    halves = [moments.half(half).count for half in (0, 1)]
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu" or np.bincount(numbers % 2).tolist() != halves:
        raise InvalidValueError(
            "groups",
            f"expected the number of the group of each of the {count} rows, {halves[0]} even and {halves[1]} odd ones "
            f"as in the moments; got shape {numbers.shape} and dtype {numbers.dtype}",
        )
    return sample, numbers.astype(np.int64)
