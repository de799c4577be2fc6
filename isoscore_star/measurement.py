"""`measure`: the scores of a cloud, their standard error, and what explains them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, doubts, formulas, interval
from isoscore_star.core.accumulator import covariance
from isoscore_star.core.block_error import balanced, block_error, log_ratio, union
from isoscore_star.core.errors import DegenerateDataError, InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import groups_of, numbers_of
from isoscore_star.core.longest_points import Longest, LongestPoints
from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours, Resemblance
from isoscore_star.core.second_pass import Blocks, Elsewhere, second_pass
from isoscore_star.core.sketch import SketchedSpread
from isoscore_star.core.spread import Spread, mean_of
from isoscore_star.distributed_arrays import is_distributed
from isoscore_star.distributed_arrays import measured as measured_there
from isoscore_star.explanation import Explanation, between_classes, explained, halves_of, require_all
from isoscore_star.reporting import Reported

INDEPENDENT = "independent points"


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


@dataclass(frozen=True, eq=False, repr=False)
class Measurement(Reported):
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
        How many times larger the variance of log PR is than if the points of the groups were independent; below 1 for
        groups that are alike, such as sentences which all have one [CLS] and one [SEP].
    longest_points : LongestPoints or None
        What the few points farthest from the mean hold of the variance; None without all points, or with fewer than 20.

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
    ['count', 'design_effect', 'dim']
    """

    score: float
    unbiased_score: float | None
    standard_error: float | None
    effective_dimensions: float
    count: int
    dim: int
    _spread: Spread = field(repr=False)
    _halves: tuple[Spread, Spread] | None = field(default=None, repr=False)
    _between: NDArray[np.float64] | None = field(default=None, repr=False)
    groups: str = field(default=INDEPENDENT, repr=False)
    group_count: int | None = field(default=None, repr=False)
    independent_score: float | None = field(default=None, repr=False)
    design_effect: float | None = field(default=None, repr=False)
    longest_points: LongestPoints | None = field(default=None, repr=False)
    _freedom: float | None = field(default=None, repr=False)
    _has_points: bool = field(default=True, repr=False)
    _resemblance: Resemblance | None = field(default=None, repr=False)

    # A dimension is an outlier if its variance is at least this many times the average one (Rudman, Chen & Eickhoff,
    # *Outlier Dimensions Encode Task-Specific Knowledge*, EMNLP 2023).
    OUTLIER_FACTOR: ClassVar[float] = 5.0

    @classmethod
    def from_moments(
        cls,
        moments: Moments,
        rows: NDArray[Any] | Blocks | Elsewhere | None = None,
        groups: NDArray[Any] | None = None,
        shrinkage_cov: Any = None,
        zeta: float = 0.0,
        *,
        neighbours: Neighbours | None = None,
    ) -> Measurement:
        """Measure points by their moments.

        Parameters
        ----------
        moments : Moments
            Of all points.
        rows : ndarray of shape (s, d) or callable, optional
            All points or, if they are independent, a uniform random sample of them, in any order, for the standard
            error. Of points too many for memory, a function that returns all of them once more, in pairs of an array
            and the numbers of its rows' groups (None if the points are independent).
        groups : ndarray of shape (s,), optional
            The number of each row's group in the moments, if `rows` are all points: numbers count on from update to
            update, and labels are numbered in their order.
        shrinkage_cov, zeta :
            See `measure`.
        neighbours : isoscore_star.Neighbours, optional
            Sums over neighbouring rows, which show whether independent points are tokens of sequences.

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
        spread, has_groups = moments.spread(), moments.group_count is not None
        dim = len(spread.anchor)
        independent = None if moments.sketch is not None else _defined(moments.isoscore_unbiased, groups=None)
        unbiased = _defined(moments.isoscore_unbiased) if has_groups else independent
        found = second_pass(moments, rows, groups, unbiased)
        return cls(
            score=score,
            unbiased_score=unbiased,
            standard_error=found.error,
            effective_dimensions=formulas.participation_ratio(score if unbiased is None else unbiased, dim),
            count=moments.count,
            dim=dim,
            _spread=spread.copy(),
            _halves=halves_of(moments),
            _between=found.between,
            groups="updates" if has_groups else INDEPENDENT,
            group_count=found.group_count,
            independent_score=independent if has_groups else None,
            design_effect=found.design_effect,
            longest_points=found.longest,
            _freedom=found.freedom,
            _has_points=found.has_points,
            _resemblance=None if has_groups or neighbours is None else neighbours.resemblance(),
        )

    @classmethod
    def from_blocks(
        cls,
        blocks: Sequence[Moments],
        shrinkage_cov: Any = None,
        zeta: float = 0.0,
        *,
        longest: NDArray[Any] | None = None,
        neighbours: Neighbours | None = None,
    ) -> Measurement:
        """Measure points in one pass, whose standard error leaves out each block.

        Parameters
        ----------
        blocks : sequence of Moments
            Disjoint blocks of whole groups, or of independent points; about twenty of about the same size.
        shrinkage_cov, zeta :
            See `measure`.
        longest : ndarray of shape (k, d), optional
            The points farthest from the mean, ten or more, for `longest_points`; as rows.
        neighbours : isoscore_star.Neighbours, optional
            See `from_moments`.

        Returns
        -------
        Measurement
            Of their union. Its standard error is that of Busing, Meijer & van der Leeden, Statistics and Computing 9
            (1999), and its interval has R − 1 degrees of freedom; both are None for fewer than eight blocks.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            As `isoscore_star.isoscore`; also if there is no block.

        Examples
        --------
        >>> import numpy as np
        >>> import isoscore_star as iso
        >>> sentences = np.random.default_rng(0).normal(size=(20, 10, 30, 8))  # 20 blocks of 10
        >>> measured = iso.Measurement.from_blocks([iso.Moments().update(block) for block in sentences])
        >>> measured.group_count, measured.standard_error < 0.05
        (200, True)
        """
        blocks = list(blocks)
        for block in blocks:
            if not isinstance(block, Moments):
                raise InvalidTypeError("blocks", f"expected Moments; got {type(block).__name__}")
        kept = balanced([block for block in blocks if block.count])
        if not kept:
            raise InvalidValueError("blocks", "expected at least one block with points; got none")
        moments = union(kept)
        measured = cls.from_moments(moments, None, None, shrinkage_cov, zeta, neighbours=neighbours)
        error, dim = block_error(kept, log_ratio(moments)), measured.dim
        if error is not None and measured.sketch_error is not None:
            error = math.hypot(error, measured.sketch_error)  # all blocks have one sketch, whose error they do not show
        if error is not None and measured.unbiased_score is not None:
            error *= formulas.participation_ratio(measured.unbiased_score, dim) / (dim - 1)
        groups = (
            None if measured.group_count is None else sum(block.groups_with_points for block in blocks if block.count)
        )
        found = Longest(moments.spread())
        if longest is not None:
            found.take(_few_rows(longest, dim))
        return replace(
            measured,
            standard_error=error,
            group_count=groups,
            longest_points=None if longest is None else found.points(),
            _freedom=len(kept) - 1.0,
            _has_points=error is not None,
        )

    def __eq__(self, other: object) -> bool:
        """Compare scores, counts, means and variances."""
        if not isinstance(other, Measurement):
            return NotImplemented
        arrays = ((self.mean, other.mean), (self.variances, other.variances))
        return self._key() == other._key() and all(np.array_equal(ours, theirs) for ours, theirs in arrays)

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[float | int | str | None, ...]:
        return (*self._numbers().values(), self.groups)

    def _numbers(self) -> dict[str, float | int | None]:
        names = ("score", "unbiased_score", "standard_error", "effective_dimensions", "count", "dim")
        grouped = ("group_count", "independent_score", "design_effect")
        return {name: getattr(self, name) for name in names + grouped}

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the unbiased score; None without a standard error. `warnings` says where it covers less."""
        if self.unbiased_score is None or self.standard_error is None:
            return None
        if self._freedom is None:
            return interval.of_points(self.unbiased_score, self.standard_error)
        return interval.of_groups(self.unbiased_score, self.standard_error, self._freedom, self.dim)

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
        """Eigenvalues of the sample covariance, largest first, shape (d,); of a sketch of k columns the first k/2."""
        return self._spread.eigenvalues() / (self.count - 1) * self._spread.unit * self._spread.unit

    @property
    def sketch_error(self) -> float | None:
        """Standard error of log PR that a sketch adds, as a fraction of PR; None where the moments are exact."""
        ours, its = self._halves or (self._spread, self._spread)
        if not isinstance(ours, SketchedSpread) or not isinstance(its, SketchedSpread):
            return None
        inner = ours.with_other(its)
        return inner.error / inner.value if inner.value > 0 else None

    @property
    def outlier_dimensions(self) -> tuple[OutlierDimension, ...]:
        """Dimensions with at least five times the average variance, largest first."""
        fractions = self._spread.diagonal() / self._spread.total
        large = [i for i in np.argsort(fractions)[::-1] if fractions[i] * self.dim >= self.OUTLIER_FACTOR]
        return tuple(OutlierDimension(int(i), float(fractions[i])) for i in large)

    def explain(
        self,
        *,
        parts: Mapping[str, Moments] | None = None,
        between: Mapping[str, Sequence[Moments]] | None = None,
        average_cosine: float | None = None,
        blocks: Sequence[Moments] | None = None,
    ) -> Explanation:
        """Explain the score: what pulls it down, what it would be otherwise, what it does not see, and in words.

        Parameters
        ----------
        parts : mapping of str to Moments, optional
            Disjoint kinds of points, such as first tokens, that together are all points.
        between : mapping of str to sequence of Moments, optional
            For each kind of classes, such as languages or layers, the moments of each; what lies between the groups
            of the measurement itself is known where its points were.
        average_cosine : float, optional
            Of two random points, which no moments tell; see `isoscore_star.diagnostics.average_cosine_similarity`.
        blocks : sequence of Moments, optional
            The blocks of `from_blocks`, at least eight, for standard errors of the spectral measures; it takes the
            eigenvalues of two more matrices for each. Of a sketch there are none.

        Returns
        -------
        Explanation
            From moments alone: it takes the eigenvectors of one d × d matrix, and no point.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            If parts or classes are no moments, or do not hold all points.

        Examples
        --------
        >>> import numpy as np
        >>> import isoscore_star as iso
        >>> points = np.random.default_rng(0).normal(size=(2000, 64)) * np.r_[20.0, np.ones(63)]
        >>> explanation = iso.measure(points).explain()
        >>> [(one.name, round(one.score, 2)) for one in explanation.what_ifs[:2]]
        [('without the largest direction', 0.95), ('without the 3 largest directions', 0.92)]
        """
        scatters = {} if self._between is None else {"groups": (self.group_count or 0, self._between)}
        scatters |= {name: between_classes(self._spread, classes) for name, classes in (between or {}).items()}
        return explained(
            self._spread,
            self._halves,
            (self.score, self.unbiased_score, self.interval),
            factor=self.OUTLIER_FACTOR,
            longest=self.longest_points,
            between=scatters,
            parts=parts,
            average_cosine=average_cosine,
            blocks=require_all(self._spread, "blocks", blocks) if blocks else (),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind in these numbers, in sentences."""
        has_unbiased, has_error = self.unbiased_score is not None, self.standard_error is not None
        of_score = doubts.of_score(self.count, self.group_count, self.dim, has_unbiased, self._has_points, has_error)
        if isinstance(self._spread, SketchedSpread) and self.group_count is None:
            of_score = doubts.of_sketched_points()
        found = (
            doubts.of_few_points(self.count, self.dim, has_unbiased),
            of_score,
            doubts.of_independence(self._resemblance),
            doubts.of_longest(self.longest_points),
            doubts.of_sketch(self.sketch_error),
        )
        return tuple(filter(None, found))

    def __repr__(self) -> str:
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        if self.group_count is not None:
            shown["group_count"] = self.group_count
        if self.warnings:  # without which the numbers would seem surer than they are
            shown["warnings"] = self.warnings
        return f"Measurement({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            **self._numbers(),
            "groups": self.groups,
            "interval": None if self.interval is None else list(self.interval),
            "longest_points": None if self.longest_points is None else self.longest_points._asdict(),
            "outlier_dimensions": [outlier._asdict() for outlier in self.outlier_dimensions],
            "warnings": list(self.warnings),
        }


def measure(
    X: Any, shrinkage_cov: Any = None, zeta: float = 0.0, *, mask: Any = None, groups: Any = "auto"
) -> Measurement:
    """Measure arrays, lists of them, or moments; see `isoscore_star.measure`, which takes streams and files, too."""
    if isinstance(X, Moments):
        for name, value, default in (("mask", mask, None), ("groups", groups, "auto")):
            if not (value is default or (isinstance(value, str) and value == default)):
                raise InvalidValueError(name, "expected none with Moments, whose points are summed. Leave it out")
        return Measurement.from_moments(X, None, None, shrinkage_cov, zeta)
    if is_distributed(X):
        passed = measured_there(X, mask, groups)
        measured = Measurement.from_moments(
            passed.moments, passed.rows, None, shrinkage_cov, zeta, neighbours=passed.neighbours
        )
        return measured if passed.taken is None else replace(measured, groups=passed.taken)
    cloud = checks.points(X, mask)
    found = groups_of(cloud, groups)
    numbers = None if found is None else numbers_of(cloud, found)
    moments, rows = Moments().update(X, mask, groups), cloud.rows()
    neighbours = None if found is not None else _neighbours(rows)
    measured = Measurement.from_moments(
        moments, np.concatenate(rows), numbers, shrinkage_cov, zeta, neighbours=neighbours
    )
    if found is None:
        return measured
    return replace(measured, groups="labels" if found.axis is None else f"axis {found.axis}")


def _neighbours(clouds: list[NDArray[Any]]) -> Neighbours:
    found = Neighbours()
    for rows in clouds:
        found.start_cloud()
        found.take(rows)
    return found


def _few_rows(longest: Any, dim: int) -> NDArray[Any]:
    rows = np.asarray(longest)
    if rows.ndim != 2 or rows.shape[1] != dim or rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
        raise InvalidValueError(
            "longest", f"expected finite points of shape (k, {dim}); got shape {rows.shape} of {rows.dtype}"
        )
    return rows


def _defined(score: Callable[..., float], **arguments: Any) -> float | None:
    try:
        return score(**arguments)
    except DegenerateDataError:
        return None
