"""The passes over all chunks: distinct labels, moments with a sample, and a second one for the error of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours
from isoscore_star.core.second_pass import Elsewhere, Taken
from isoscore_star.distributed_arrays import _chunk
from isoscore_star.distributed_arrays._chunk import Summed
from isoscore_star.distributed_arrays._clouds import Union, union_of
from isoscore_star.distributed_arrays._tree import kept, merged, named

_LEAST_SAMPLE = 4096
_SAMPLE_PER_DIMENSION = 4
_SAMPLE_VALUES = 2**28
"""Of a sample for the standard error of independent points: as many rows as for files, in at most 2 GiB."""


class Reduced(NamedTuple):
    """What is left of the points once all chunks were taken.

    Attributes
    ----------
    moments : Moments
        Of all points.
    rows : ndarray of shape (s, d) or Elsewhere
        A uniform random sample of independent points; of groups the second pass, not made yet.
    neighbours : Neighbours
        Sums over neighbouring rows of independent points.
    taken : str or None
        What was taken for groups; None if points are independent.
    """

    moments: Moments
    rows: NDArray[Any] | Elsewhere
    neighbours: Neighbours
    taken: str | None


def reduced(X: Any, mask: Any = None, groups: Any = None) -> Moments:
    """Return the moments of all points, in one pass; arguments as of `isoscore_star.isoscore_unbiased`."""
    union = union_of(X, mask, groups)
    moments: Moments = _first_pass(union, _distinct(union), 0.0)[1].moments
    return moments


def measured(X: Any, mask: Any, groups: Any) -> Reduced:
    """Return what `isoscore_star.measure` makes of all points; arguments as there."""
    union = union_of(X, mask, groups)
    if union.taken is None:
        union = union.counted()
        found = _first_pass(union, None, sample_share(union.dim or 1, union.size))[1]
        return Reduced(found.moments, found.sample, found.neighbours, None)
    distinct = _distinct(union)
    task, found = _first_pass(union, distinct, 0.0)
    again = partial(_second_pass, union, distinct, task)
    return Reduced(found.moments, Elsewhere(again), found.neighbours, union.taken)


def first_pass(name: str, function: Callable[..., Summed], calls: Iterable[tuple[Any, ...]]) -> tuple[Any, Summed]:
    """Return the task of the whole, whose result stays where it is, and the result."""
    task = kept(merged(named(name, function, calls), _chunk.all_summed))
    found: Summed = task.compute()
    return task, found


def sample_share(dim: int, count: int) -> float:
    """Return the probability with which a point is in the sample: 1 while all fit."""
    size = max(_LEAST_SAMPLE, min(_SAMPLE_PER_DIMENSION * dim, _SAMPLE_VALUES // dim))
    return min(1.0, size / max(1, count))


def _first_pass(union: Union, distinct: Any, share: float) -> tuple[Any, Summed]:
    return first_pass("isoscore-moments", _chunk.summed, ((*given, share) for given in _given(union, distinct)))


def _second_pass(union: Union, distinct: Any, task: Any, _: Moments, unbiased: float | None) -> Taken:
    """Take all points once more, with the moments that the first pass left where its tasks ran."""
    tasks = named("isoscore-errors", _chunk.taken, ((*given, task, unbiased) for given in _given(union, distinct)))
    found: Taken = merged(tasks, _chunk.all_taken).compute()
    return found


def _distinct(union: Union) -> Any:
    """Return the task of all labels, each once, whose result stays where it is; None without labels."""
    labels = [cloud.labels for cloud in union.clouds if cloud.labels is not None]
    if not labels:
        return None
    blocks = [block for grid in labels for block in grid.blocks.flat]
    tasks = named("isoscore-labels", _chunk.distinct_labels, ((block, i) for i, block in enumerate(blocks)))
    return kept(merged(tasks, _chunk.all_distinct))


def _given(union: Union, distinct: Any) -> Iterator[tuple[Any, ...]]:
    for chunk in union.chunks():
        yield chunk.rows, chunk.mask, chunk.labels, distinct, chunk.place, union.axis
