"""What some of the points do to the score of all, by the exact moments of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.block_error import union
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError, IsoScoreError
from isoscore_star.core.longest_points import LongestPoints
from isoscore_star.core.moments import Moments
from isoscore_star.core.spread import Spread, centred, mean_of
from isoscore_star.explanation._terms import Part

FloatArray = NDArray[np.float64]

_SAME = 1e-3
"""Relative difference of the variance, and of the mean in standard deviations, up to which two sums are of the same
points: float32 products err by far less."""


def parts_of(spread: Spread, parts: Mapping[str, Moments]) -> tuple[Part, ...]:
    """Return each part's share, from the union of the others: subtracted from all, a small rest would lose its digits.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If the parts are no moments, or not all points of the cloud.
    """
    if parts:
        require_all(spread, "parts", parts)
    return tuple(_part(spread, name, parts) for name in parts if 0 < parts[name].count < spread.count)


def between_classes(spread: Spread, classes: Sequence[Moments]) -> tuple[int, FloatArray]:
    """Return how many classes there are, and the scatter of their means about that of all, in the spread's unit.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        As `require_all`.
    """
    kept = [one for one in require_all(spread, "between", classes) if one.count]
    means = np.stack([centred(spread, mean_of(one.spread())[None])[0] for one in kept])
    weighted = means * np.sqrt([one.count for one in kept])[:, None]
    return len(kept), np.asarray(weighted.T @ weighted)


def longest_part(longest: LongestPoints | None) -> tuple[Part, ...]:
    """Return what the points farthest from the mean hold."""
    if longest is None:
        return ()
    name = "longest point" if longest.count == 1 else "longest points"
    return (Part(name, longest.count, longest.trace_share, longest.square_share, longest.score_without, None),)


def _part(spread: Spread, name: str, parts: Mapping[str, Moments]) -> Part:
    others = union([part for other, part in parts.items() if other != name and part.count])
    trace, squares = 0.0, 0.0
    if others.count > 1:
        rest = others.spread()
        ratio = (rest.unit / spread.unit) ** 2 / spread.total
        trace = rest.total * ratio
        squares = rest.squares * ratio / spread.squares * (ratio * spread.total**2)
    return Part(
        name,
        parts[name].count,
        1 - trace,
        1 - squares,
        _defined(others.isoscore),
        _defined(others.isoscore_unbiased),
    )


def require_all(spread: Spread, argument: str, parts: Mapping[str, Moments] | Sequence[Moments]) -> list[Moments]:
    """Require moments that together are of all points of the cloud.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If they are not.
    """
    if argument == "parts" and not isinstance(parts, Mapping):
        raise InvalidTypeError(argument, f"expected a mapping of names to Moments; got {type(parts).__name__}")
    named = parts if isinstance(parts, Mapping) else {f"number {index}": part for index, part in enumerate(parts)}
    dim = len(spread.anchor)
    for name, part in named.items():
        if not isinstance(part, Moments):
            raise InvalidTypeError(argument, f"expected Moments for {name!r}; got {type(part).__name__}")
        if part.dim not in (None, dim):
            raise InvalidValueError(argument, f"expected moments of {dim} dimensions for {name!r}; got {part.dim}")
    count = sum(part.count for part in named.values())
    if count != spread.count:
        raise InvalidValueError(
            argument, f"expected moments of all {spread.count} points, each point in one of them; got {count} points"
        )
    whole = union([part for part in named.values() if part.count]).spread()
    deviation = math.sqrt(spread.total / spread.count) * spread.unit
    apart = (whole.anchor - spread.anchor) + (whole.offset * whole.unit - spread.offset * spread.unit)
    variance = whole.total * (whole.unit / spread.unit) ** 2
    if abs(variance / spread.total - 1) > _SAME or float(np.abs(apart).max()) > _SAME * deviation:
        raise InvalidValueError(
            argument, "expected moments of the points that are measured; got others, of another mean or variance"
        )
    return list(named.values())


def _defined(score: Callable[[], float]) -> float | None:
    try:
        return score()
    except IsoScoreError:
        return None
