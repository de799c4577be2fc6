"""Every measure of one cloud in one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import DegenerateDataError, MissingDependencyError, arguments, measure
from isoscore_star.diagnostics._cosine import average_cosine_similarity
from isoscore_star.diagnostics._intrinsic import id_score, mle_dimension, two_nn_dimension
from isoscore_star.diagnostics._outliers import outlier_dimensions
from isoscore_star.diagnostics._partition import partition_score
from isoscore_star.diagnostics._points import FloatArray, in_unit
from isoscore_star.diagnostics._spectral import condition_number, rank_me, varex_score
from isoscore_star.diagnostics._uniformity import uniformity
from isoscore_star.explanation import Measure

_ISOSCORE = "Rudman et al., Findings of ACL 2022"
_PARTITION = "Mu & Viswanath, ICLR 2018"
_OUTLIERS = "Rudman, Chen & Eickhoff, EMNLP 2023"

PAIRWISE_POINTS = 10_000
"""Points above which measures of pairs take a random sample: 10⁸ pairs take some seconds."""


@dataclass(frozen=True)
class MeasureTable:
    """Result of `compare_measures`.

    Attributes
    ----------
    count, dim : int
        Number of points, and their dimensions.
    rows : tuple of Measure
        One for each measure.
    """

    count: int
    dim: int
    rows: tuple[Measure, ...]

    def __getitem__(self, name: str) -> float | None:
        """Return the value of a measure by its name."""
        for row in self.rows:
            if row.name == name:
                return row.value
        raise KeyError(f"{name!r} is none of {', '.join(repr(row.name) for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, for JSON; an infinite value, which JSON lacks, as a string."""
        return {
            "count": self.count,
            "dim": self.dim,
            "measures": [asdict(row) | {"value": _for_json(row.value)} for row in self.rows],
        }


def _for_json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def compare_measures(
    X: Any, mask: Any = None, *, max_pairwise_points: int = PAIRWISE_POINTS, seed: int = 0, groups: Any = "auto"
) -> MeasureTable:
    """Compute every measure of this library for a cloud.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.
    max_pairwise_points : int, default 10000
        Uniformity and the intrinsic dimensions, which compare pairs, take a random sample of at most this size.
    seed : int, default 0
        Seed of that sample.
    groups : "auto", int, array of labels, or None, default "auto"
        Which points were sampled together, such as the tokens of a sentence, for the unbiased score; see
        `isoscore_star.isoscore_unbiased`.

    Returns
    -------
    MeasureTable
        The table; a measure that is not defined for these points has the reason in its note.

    Raises
    ------
    DegenerateDataError
        If there are fewer than two points, or all are identical.
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_unbiased`.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> points = np.random.default_rng(0).normal(size=(500, 8)) + 3  # isotropic, but for its mean
    >>> comparison = diagnostics.compare_measures(points)
    >>> round(comparison["IsoScore"], 2), round(comparison["average cosine similarity"], 2)
    (0.98, 0.91)
    """
    arguments.integer("max_pairwise_points", max_pairwise_points, 2)
    arguments.integer("seed", seed, 0)
    numbers = arguments.group_numbers(X, mask, groups)
    points = arguments.points(X, mask, "a comparison")
    sample, sampled = points, ""
    if len(points) > max_pairwise_points:
        chosen = np.random.default_rng(seed).choice(len(points), max_pairwise_points, replace=False)
        sample, sampled = points[np.sort(chosen)], f"of a random sample of {max_pairwise_points:,} points"
    m, d = points.shape
    singular = "" if m > d else "no more points than dimensions"
    return MeasureTable(
        m,
        d,
        (
            *_scores(points, numbers),
            _average_cosine(points),
            _row("partition score", lambda: partition_score(points), "1", _PARTITION),
            _row("VarEx", lambda: varex_score(points), "1", _ISOSCORE),
            _row("RankMe", lambda: rank_me(points), f"{d}", "Garrido et al., ICML 2023"),
            _row("condition number", lambda: condition_number(points), "1", "Golub & Van Loan, 4th ed., 2.6", singular),
            _row("outlier dimensions", lambda: float(len(outlier_dimensions(points))), "0", _OUTLIERS),
            *_of_pairs(sample, sampled),
        ),
    )


def point_measures(points: FloatArray, note: str = "") -> tuple[Measure, ...]:
    """Compute the measures that no covariance tells, which need points: cosines, neighbours, distances.

    Parameters
    ----------
    points : ndarray of shape (m, d), float64
        Points, or a random sample of them.
    note : str, optional
        What they are a sample of.

    Returns
    -------
    tuple of Measure
        A measure that is not defined for these points has the reason in its note.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> cosine, *_ = diagnostics.point_measures(np.random.default_rng(0).normal(size=(500, 8)) + 3)
    >>> cosine.name, round(cosine.value, 2)
    ('average cosine similarity', 0.91)
    """
    partition = _row("partition score", lambda: partition_score(points), "1", _PARTITION, note)
    return (_average_cosine(points, note), partition, *_of_pairs(points, note))


def _average_cosine(points: FloatArray, note: str = "") -> Measure:
    source = "Ethayarajh, EMNLP 2019"
    return _row("average cosine similarity", lambda: average_cosine_similarity(points), "0", source, note)


def _of_pairs(sample: FloatArray, note: str) -> tuple[Measure, ...]:
    """Return the measures whose cost grows with the square of the number of points."""
    dim = str(sample.shape[1])
    mle, two_nn = "Levina & Bickel, NeurIPS 2004", "Facco et al., Scientific Reports 2017"
    return (
        _row("ID score", lambda: id_score(sample), "1", _ISOSCORE, note),
        _row("intrinsic dimension (MLE)", lambda: mle_dimension(sample), dim, mle, note),
        _row("intrinsic dimension (TwoNN)", lambda: two_nn_dimension(sample), dim, two_nn, note),
        _row("uniformity", lambda: uniformity(sample), "about -4", "Wang & Isola, ICML 2020", note),
    )


def _scores(points: FloatArray, numbers: NDArray[np.int64] | None) -> tuple[Measure, ...]:
    measurement = measure(in_unit(points), groups=numbers)
    of = "independent points" if numbers is None else f"halves of {measurement.group_count} groups"
    note = f"({of})" if measurement.standard_error is None else f"± {measurement.standard_error:.4f} ({of})"
    if measurement.unbiased_score is None:
        note = "too few points" if numbers is None else "too few groups"
    return (
        Measure("IsoScore", measurement.score, "1", _ISOSCORE, next(iter(measurement.warnings), "")),
        Measure("unbiased score", measurement.unbiased_score, "1", "isoscore_star.isoscore_unbiased", note),
        Measure("effective dimensions", measurement.effective_dimensions, str(measurement.dim), "participation ratio"),
    )


def _row(name: str, compute: Callable[[], float], isotropic: str, source: str, note: str = "") -> Measure:
    try:
        return Measure(name, compute(), isotropic, source, note)
    except (DegenerateDataError, MissingDependencyError) as error:
        return Measure(name, None, isotropic, source, error.reason)
