"""What `measure_groups` returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import interval
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import shown
from isoscore_star.explanation import Between, split_of
from isoscore_star.measurement import Measurement
from isoscore_star.reporting import fragment, to_frame

Masked = np.ma.MaskedArray[Any, Any]


@dataclass(frozen=True)
class MeasuredGroup:
    """One class of a `GroupedMeasurement`; see there.

    Attributes
    ----------
    label : object
        Its label.
    count : int
        Its points.
    score, unbiased_score, standard_error : float or None
        As in `Measurement`; None where it is undefined.
    group_count : int or None
        Its groups with points; None for independent points.
    """

    label: Any
    count: int
    score: float | None
    unbiased_score: float | None
    standard_error: float | None
    group_count: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class GroupedMeasurement:
    """Result of `measure_groups`: the scores of every class, and how the whole splits into classes.

    Attributes
    ----------
    labels : ndarray of shape (k,)
        Labels of the classes that have a point, in their order.
    counts : ndarray of shape (k,), int
        Points of each.
    scores : masked array of shape (k,), float64
        IsoScore of each class's own points; masked where it is undefined (one point, or identical ones).
    unbiased_scores : masked array of shape (k,), float64
        Score without the bias of few points: of independent points (four or more), or of two halves of the class's
        groups; masked where it is undefined.
    standard_errors : masked array of shape (k,), float64
        Jackknife standard error of it, leaving out each point (of five or more), or each group (of three or more in
        each half).
    group_counts : ndarray of shape (k,), int, or None
        Groups with points; None for independent points.
    whole : Measurement
        Of all points together.
    between : Between or None
        The split of all points: share of the variance and of 1/PR that lies between the classes, the score within
        them; None of more than 8,192 dimensions. Computed on first access.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> rng = np.random.default_rng(0)
    >>> languages = np.repeat(["de", "en", "fr"], 200)
    >>> points = rng.normal(size=(600, 16))
    >>> points[languages == "fr", 0] *= 10
    >>> measured = iso.measure_groups(points, by=languages)
    >>> {str(one.label): round(one.unbiased_score, 2) for one in measured}
    {'de': 1.01, 'en': 0.99, 'fr': 0.02}
    >>> measured["fr"].count, len(measured)
    (200, 3)
    >>> f"{measured.between.variance_share:.1%} of the variance lies between languages"
    '0.1% of the variance lies between languages'
    """

    labels: NDArray[Any]
    counts: NDArray[np.int64]
    scores: Masked
    unbiased_scores: Masked
    standard_errors: Masked
    whole: Measurement
    group_counts: NDArray[np.int64] | None = None
    _scatters: tuple[NDArray[np.float64], NDArray[np.float64]] | None = field(default=None, repr=False)

    @property
    def dim(self) -> int:
        """Dimensions d."""
        return self.whole.dim

    @cached_property
    def between(self) -> Between | None:
        """What lies between the classes."""
        if self._scatters is None:
            return None
        within, between = self._scatters
        total = float(within.trace() + between.trace())
        return split_of("classes", len(self), self.whole.count, within / total, between / total)

    @property
    def ranked(self) -> NDArray[np.int64]:
        """Numbers of the classes from the lowest to the highest unbiased score (or score, if none has the other)."""
        scores = self.unbiased_scores if self.unbiased_scores.count() else self.scores
        defined = np.flatnonzero(~np.ma.getmaskarray(scores))
        return np.asarray(defined[np.argsort(scores.data[defined], kind="stable")])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind in these numbers, in sentences."""
        classes, least = len(self), interval.COVERED_FRACTION * self.dim
        independent = self.group_counts is None
        few: Any = self.counts < least if independent else np.asarray(self.group_counts) < interval.LEAST_GROUPS
        missing = [np.ma.getmaskarray(part) for part in (self.scores, self.unbiased_scores, self.standard_errors)]
        of_unbiased = missing[1] & ~missing[0]
        few &= ~missing[2]
        found = (
            (missing[0], "no score, which takes two points that differ"),
            (
                of_unbiased,
                "no unbiased score, which takes four points, and more where their differences are orthogonal"
                if independent
                else "no unbiased score, which takes two groups with points in each half",
            ),
            (
                missing[2] & ~missing[1],
                f"no standard error, which takes {'five points' if independent else 'three groups in each half'}, and "
                "without each of them a score",
            ),
            (
                few,
                "a standard error that covers less than it says: fewer points than a quarter of the dimensions"
                if independent
                else f"a standard error that covers less than it says: fewer groups than {interval.LEAST_GROUPS}",
            ),
            (
                (self.counts < self.dim) & ~missing[0],
                "fewer points than dimensions, so that their IsoScore is far too low; trust the unbiased scores",
            ),
        )
        own = [
            f"{part.sum():,} of {classes:,} classes {'has' if part.sum() == 1 else 'have'} {text}"
            for part, text in found
            if part.any()
        ]
        return (*own, *(f"all points together: {text}" for text in self.whole.warnings))

    def at(self, number: SupportsIndex) -> MeasuredGroup:
        """Return the class at this place of `labels`."""
        label = self.labels[number]
        return MeasuredGroup(
            label.item() if isinstance(label, np.generic) else label,
            int(self.counts[number]),
            _number(self.scores[number]),
            _number(self.unbiased_scores[number]),
            _number(self.standard_errors[number]),
            None if self.group_counts is None else int(self.group_counts[number]),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[MeasuredGroup]:
        return (self.at(number) for number in range(len(self)))

    def __getitem__(self, label: Any) -> MeasuredGroup:
        """Return the class with this label."""
        try:
            number = int(np.searchsorted(self.labels, label))
            if number < len(self) and np.ndim(label) == 0 and self.labels[number] == label:
                return self.at(number)
        except (TypeError, ValueError):
            raise InvalidTypeError(
                "label", f"expected one of the kind of {shown(self.labels[0])}; got {shown(label)}"
            ) from None
        raise InvalidValueError(
            "label", f"expected that of a class, such as {shown(self.labels[0].item())}; got {shown(label)}"
        )

    def __repr__(self) -> str:
        head = f"GroupedMeasurement({len(self):,} classes, {self.whole.count:,} points, dim={self.dim})"
        ranked = self.ranked
        shown_ones = ranked if len(ranked) <= 2 * _SHOWN else np.r_[ranked[:_SHOWN], ranked[-_SHOWN:]]
        rows: list[tuple[str, ...]] = [("class", "points", "score", "unbiased", "error")]
        rows += [
            (str(one.label), f"{one.count:,}", *map(_text, (one.score, one.unbiased_score, one.standard_error)))
            for one in map(self.at, shown_ones)
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        if len(ranked) > 2 * _SHOWN:
            lines.insert(_SHOWN + 1, "...")
        return "\n".join([head, *lines, *self.warnings])

    def _repr_html_(self) -> str:
        return fragment(self)

    def to_frame(self) -> Any:
        """Make a table for pandas or polars, a row for each class; see `isoscore_star.reporting.to_frame`."""
        return to_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON; a label that is no number and no word is written out."""
        return {
            "classes": [asdict(one) | {"label": _plain(one.label)} for one in self],
            "between": None if self.between is None else vars(self.between) | {"shares": list(self.between.shares)},
            "whole": self.whole.to_dict(),
            "warnings": list(self.warnings),
        }


_SHOWN = 5
"""Classes of the lowest scores, and of the highest ones, that are shown."""


def _plain(label: Any) -> str | int | float:
    return label if isinstance(label, (str, int, float)) else str(label)


def _number(figure: Any) -> float | None:
    return None if figure is np.ma.masked else float(figure)


def _text(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.4f}"
