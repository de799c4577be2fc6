"""`Explanation`: why a score is what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from isoscore_star.core import formulas
from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.longest_points import LongestPoints
from isoscore_star.core.moments import Moments
from isoscore_star.core.sketch import SketchedSpread
from isoscore_star.core.spread import Spread
from isoscore_star.explanation._cloud import Cloud, FloatArray, mean_of_unit
from isoscore_star.explanation._decomposition import between_of, coordinates_of, directions_of
from isoscore_star.explanation._measures import spectral_measures
from isoscore_star.explanation._parts import longest_part, parts_of
from isoscore_star.explanation._sketched import (
    sketched_coordinates,
    sketched_directions,
    sketched_measures,
    sketched_what_ifs,
)
from isoscore_star.explanation._terms import Between, Coordinate, Direction, Measure, Part, WhatIf
from isoscore_star.explanation._what_ifs import what_ifs_of
from isoscore_star.explanation._words import Facts, sentences_of


@dataclass(frozen=True)
class Explanation:
    """Result of `Measurement.explain`: what pulls a score down, what it would be otherwise, and what it does not see.

    1/PR = ‖S‖²/(tr S)² of the plug-in score is a sum of squares, so that each part has a share of it; the
    ``halves_share`` of a part is the same of ⟨A, B⟩/(tr A·tr B), which the unbiased score of groups rests on.

    Attributes
    ----------
    score, unbiased_score, count, dim :
        As in `Measurement`.
    effective_dimensions : float
        Participation ratio of the unbiased score, or of the score where that is None.
    directions : tuple of Direction
        Principal directions, largest first, and the others together; their shares add up to 1.
    coordinates : tuple of Coordinate
        Outlier coordinates, largest first, and the others together; their shares add up to `diagonal_share`.
    diagonal_share : float
        ΣSᵢᵢ²/‖S‖²: 1 where the principal directions are coordinates, small where they are rotated against them.
    parts : tuple of Part
        Kinds of points, such as first tokens, and the longest points.
    between : tuple of Between
        What lies between groups.
    mean_share : float
        ‖μ‖²/E‖x‖², which no score of a covariance sees; the average cosine of two points, weighted by their lengths.
    average_cosine : float or None
        The average cosine, where it was computed.
    what_ifs : tuple of WhatIf
        Scores after a change.
    measures : tuple of Measure
        Other measures.
    sentences : tuple of str
        The verdict in words, the first of them the headline.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(2000, 64)) * np.r_[20.0, np.ones(63)]
    >>> explanation = iso.measure(points).explain()
    >>> print(explanation.sentences[1])
    Outlier coordinate 0 holds 85.9% of the variance: without it the score is 0.95 instead of 0.0056.
    >>> round(sum(direction.share for direction in explanation.directions), 12)
    1.0
    """

    score: float
    unbiased_score: float | None
    effective_dimensions: float
    count: int
    dim: int
    directions: tuple[Direction, ...]
    coordinates: tuple[Coordinate, ...]
    diagonal_share: float
    parts: tuple[Part, ...]
    between: tuple[Between, ...]
    mean_share: float
    average_cosine: float | None
    what_ifs: tuple[WhatIf, ...]
    measures: tuple[Measure, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, for JSON; an infinite value, which JSON lacks, as a string."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def explained(
    spread: Spread,
    halves: tuple[Spread, Spread] | None,
    scores: tuple[float, float | None, tuple[float, float] | None],
    *,
    factor: float,
    longest: LongestPoints | None = None,
    between: Mapping[str, tuple[int, FloatArray]] | None = None,
    parts: Mapping[str, Moments] | None = None,
    average_cosine: float | None = None,
    blocks: Sequence[Moments] = (),
) -> Explanation:
    """Explain the score of centred points.

    Parameters
    ----------
    spread, halves :
        All points, and the halves of their groups.
    scores : tuple
        The score, the unbiased one and its interval.
    factor : float
        Multiple of the average variance from which on a coordinate is an outlier.
    longest : LongestPoints, optional
        The points farthest from the mean.
    between : mapping of str to (int, ndarray of shape (d, d)), optional
        For each kind of groups how many there are, and their scatter B in the spread's unit.
    parts : mapping of str to Moments, optional
        Disjoint parts that together are the cloud.
    average_cosine : float, optional
        Of two random points.
    blocks : sequence of Moments, optional
        Of the points, for standard errors of the measures.
    """
    score, unbiased, interval = scores
    dim, count = len(spread.anchor), spread.count
    if isinstance(spread, SketchedSpread):
        shape = _sketched(spread, factor, between)
    else:
        shape = _exact(spread, halves, factor, between or {}, blocks)
    facts = Facts(
        score,
        unbiased,
        interval,
        dim,
        count,
        shape.directions,
        shape.coordinates,
        parts_of(spread, parts or {}) + longest_part(longest),
        shape.between,
        shape.what_ifs,
        mean_of_unit(spread)[0],
        average_cosine,
    )
    return Explanation(
        score=score,
        unbiased_score=unbiased,
        effective_dimensions=formulas.participation_ratio(score if unbiased is None else unbiased, dim),
        count=count,
        dim=dim,
        directions=shape.directions,
        coordinates=shape.coordinates,
        diagonal_share=sum(one.share for one in shape.coordinates),
        parts=facts.parts,
        between=shape.between,
        mean_share=facts.mean_share,
        average_cosine=average_cosine,
        what_ifs=shape.what_ifs,
        measures=shape.measures,
        sentences=sentences_of(facts),
    )


class _Shape(NamedTuple):
    """What follows from the covariance alone."""

    directions: tuple[Direction, ...]
    coordinates: tuple[Coordinate, ...]
    between: tuple[Between, ...]
    what_ifs: tuple[WhatIf, ...]
    measures: tuple[Measure, ...]


def _exact(
    spread: Spread,
    halves: tuple[Spread, Spread] | None,
    factor: float,
    between: Mapping[str, tuple[int, FloatArray]],
    blocks: Sequence[Moments],
) -> _Shape:
    cloud = Cloud.of(spread, halves)
    coordinates = coordinates_of(cloud, factor)
    outliers = [one.dimension for one in coordinates if one.dimension is not None]
    groups = tuple(between_of(cloud, name, count, scatter / spread.total) for name, (count, scatter) in between.items())
    return _Shape(
        directions_of(cloud),
        coordinates,
        groups,
        what_ifs_of(cloud, outliers),
        spectral_measures(cloud, groups, blocks),
    )


def _sketched(spread: SketchedSpread, factor: float, between: Mapping[str, tuple[int, FloatArray]] | None) -> _Shape:
    if between:
        raise InvalidValueError("between", "a sketch does not tell what lies between classes. Leave it out")
    return _Shape(
        sketched_directions(spread),
        sketched_coordinates(spread, factor),
        (),
        sketched_what_ifs(spread),
        sketched_measures(spread),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
