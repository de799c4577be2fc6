"""What is done with one chunk, where it is: its moments, a sample of its rows, and the second pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError, IsoScoreError
from isoscore_star.core.groups import groups_of, numbers_of
from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours
from isoscore_star.core.second_pass import SecondPass, Taken
from isoscore_star.distributed_arrays._clouds import Place


class Summed(NamedTuple):
    """What one pass keeps of some points: their moments and, of independent ones, two things more."""

    moments: Moments
    neighbours: Neighbours
    sample: NDArray[Any]


def summed(rows: Any, mask: Any, labels: Any, distinct: Any, place: Place, axis: int | None, share: float) -> Summed:
    """Return the moments of a chunk and, if `share` is above 0, what a measurement of independent points needs.

    Each row is in the sample with this probability, by its number in the whole and nothing else.
    """
    if hasattr(rows, "iloc") and not len(rows):  # of lists it has no width
        return Summed(Moments(), Neighbours(), np.empty((0, 0)))
    try:
        rows, mask, groups, first = _known(rows, mask, labels, distinct, place, axis)
        _require_finite(rows, mask, place)
        moments = Moments().update(rows, mask, groups, first)
        neighbours, sample = Neighbours(), np.empty((0, moments.dim or 0))
        if share and groups is None:
            shape = tuple(rows.shape[:-1])
            keys = uniform(place.numbers(shape))
            points, keep = checks.points(rows, mask), slice(None) if mask is None else np.reshape(mask, -1) != 0
            own = points.rows()[0]
            if place.is_whole(shape):
                neighbours.take(own)
            sample = own[keys[keep] < share]
        return Summed(moments, neighbours, np.asarray(sample))
    except IsoScoreError as error:
        raise error.about(place.name) from error


def all_summed(parts: list[Summed]) -> Summed:
    """Return what parts keep together; the same number is the same group."""
    moments, neighbours = Moments(), Neighbours()
    for part in parts:
        moments.merge(part.moments, same_groups=True)
        neighbours.merge(part.neighbours)
    filled = [part.sample for part in parts if len(part.sample)] or [parts[0].sample]
    return Summed(moments, neighbours, np.concatenate(filled))


def taken(
    rows: Any,
    mask: Any,
    labels: Any,
    distinct: Any,
    place: Place,
    axis: int | None,
    first_pass: Summed,
    unbiased: float | None,
) -> Taken:
    """Take the points of a chunk in groups a second time."""
    rows, mask, groups, first = _known(rows, mask, labels, distinct, place, axis)
    cloud = checks.points(rows, mask)
    found = groups_of(cloud, groups, numbered=True)
    if found is None:
        raise InvalidValueError("groups", "expected groups in a second pass; got independent points")
    second = SecondPass(first_pass.moments, unbiased)
    second.take(cloud.rows()[0], numbers_of(cloud, found) + (first or 0))
    return second.taken()


def all_taken(parts: list[Taken]) -> Taken:
    """Return what parts took together."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    return whole


def distinct_labels(labels: Any, number: int) -> NDArray[Any]:
    """Return the labels of a chunk, each once, in order."""
    try:
        return np.asarray(np.unique(_labels(labels)))
    except IsoScoreError as error:
        raise type(error)(f"groups, chunk {number}", error.reason) from error


def all_distinct(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the labels of all parts, each once, in order: the place of one is the number of its group."""
    parts = [part for part in parts if len(part)] or parts[:1]
    kinds = {"number" if part.dtype.kind in "iufb" else "text" for part in parts}
    if len(kinds) > 1:
        raise InvalidTypeError("groups", "expected labels of one kind, integers or strings; got both")
    return np.unique(np.concatenate(parts))


def uniform(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a random number in [0, 1) for each integer, always the same one: the generator SplitMix64 at that place.

    Steele, Lea & Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014.
    """
    state = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((state ^ (state >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def _known(
    rows: Any, mask: Any, labels: Any, distinct: Any, place: Place, axis: int | None
) -> tuple[Any, Any, Any, int | None]:
    """Return rows, mask, groups and the number of the first one, as `Moments.update` takes them."""
    rows, mask = _rows(rows), None if mask is None else _plain(mask)
    if axis is not None:
        return rows, mask, axis, (place.starts or ())[axis]
    if labels is None:
        return rows, mask, None, None
    if distinct is None:  # labels are the groups' numbers
        return rows, mask, labels, 0
    numbers = np.searchsorted(distinct, _labels(labels).astype(distinct.dtype, copy=False))
    return rows, mask, numbers.astype(np.int64), 0


def _rows(rows: Any) -> Any:
    """Return points as they are or, of a data frame, in NumPy: its columns, or its lists as rows."""
    if not hasattr(rows, "iloc"):
        return rows
    if rows.ndim == 2:
        values = rows.to_numpy()
        return values.astype(np.float64) if values.dtype == object else values
    vectors = [np.asarray(vector) for vector in rows]
    if any(vector.ndim != 1 for vector in vectors):
        raise InvalidTypeError("X", f"expected lists of numbers, each a point, in the column {rows.name!r}; got others")
    widths = sorted({len(vector) for vector in vectors})
    if len(widths) > 1:
        raise InvalidValueError("X", f"expected lists of one length, each a point; got {widths[0]} and {widths[-1]}")
    return np.stack(vectors) if vectors else np.empty((0, 2))


def _require_finite(rows: Any, mask: Any, place: Place) -> None:
    """Require finite values, of which the moments' own message would tell the row in one half alone."""
    if not isinstance(rows, np.ndarray) or rows.dtype.kind != "f" or rows.ndim < 2:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        sums = rows.sum(axis=-1)  # not finite if a value is not, and where a sum overflows
    if np.isfinite(sums).all():
        return
    bad = ~np.isfinite(rows).all(axis=-1)
    if mask is not None and np.shape(mask) == bad.shape:
        bad &= np.asarray(mask) != 0
    if bad.any():
        index = np.argwhere(bad)[0] + (0 if place.starts is None else place.starts)
        where = f"row {index[0]}" if len(index) == 1 else f"index ({', '.join(map(str, index))})"
        raise InvalidValueError(
            "X",
            f"every value has to be finite; got NaN or inf in {np.count_nonzero(bad)} points, the first at {where} "
            f"(counted from 0{', in this chunk' * (place.starts is None)}). Remove them or mask them",
        )


def _labels(labels: Any) -> NDArray[Any]:
    """Return labels in NumPy, integers or strings, none of them missing."""
    found = np.asarray(_plain(labels))
    if found.dtype == object and all(isinstance(label, str) for label in found.flat):
        found = found.astype(str)
    missing = np.count_nonzero(found != found) if found.dtype.kind == "f" else 0
    if missing or found.dtype.kind not in "biufUS":
        got = f"{missing} NaN" if missing else f"dtype {found.dtype}, or missing ones"
        raise InvalidTypeError("groups", f"expected labels, integers or strings, one for each point; got {got}")
    return found


def _plain(values: Any) -> Any:
    return values.to_numpy() if hasattr(values, "iloc") else values
