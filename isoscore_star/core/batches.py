"""Points that come in batches: what an iterable of them may give, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.registry import backend_of

_ARGUMENTS = ("X", "mask", "groups")
_STACKED = 1024
"""Vectors that come one by one are taken in so many at a time."""


class Batch(NamedTuple):
    """Points of one batch: the arguments of `isoscore_star.Moments.update`."""

    X: Any
    mask: Any = None
    groups: Any = "auto"


def is_stream(X: Any) -> bool:
    """Return whether X gives batches, such as a generator or a data loader, and is no array or list of arrays."""
    if isinstance(X, (list, tuple, str, bytes, Mapping)) or not hasattr(type(X), "__iter__"):
        return False
    return not (hasattr(X, "__array__") or hasattr(X, "shape"))


def batches_of(X: Iterable[Any], groups: Any = "auto") -> Iterator[Batch]:
    """Return the batches of a stream: arrays, lists of arrays (layers), vectors, or mappings of X, mask and groups."""
    vectors: list[Any] = []
    for item in X:
        batch = _batch(item, groups)
        if len(getattr(batch.X, "shape", (0, 0))) == 1 and batch.mask is None:
            vectors.append(backend_of(batch.X).to_numpy(batch.X))
            if len(vectors) < _STACKED:
                continue
            yield _stacked(vectors, groups)
            vectors = []
        else:
            if vectors:
                yield _stacked(vectors, groups)
                vectors = []
            yield batch
    if vectors:
        yield _stacked(vectors, groups)


def require_alone(**arguments: Any) -> None:
    """Require that arguments that belong to one batch were not given for a stream of them."""
    for name, value in arguments.items():
        if value is not None:
            raise InvalidValueError(
                name,
                f"expected none for an iterable of batches. Give mappings {{'X': ..., {name!r}: ...}} as batches"
                if name in _ARGUMENTS
                else "expected none for an iterable of batches. Leave it out",
            )


def numbers_in_lists(X: Any) -> Any:
    """Return an array for a list of numbers, or of lists of numbers; anything else unchanged."""
    first: Any = X
    while isinstance(first, (list, tuple)) and len(first):
        first = first[0]
    is_number = not isinstance(first, bool) and isinstance(first, Real)
    if not isinstance(X, (list, tuple)) or not is_number:
        return X
    try:
        return np.array(X)
    except ValueError as error:
        raise InvalidValueError(
            "X", "lists of numbers are the rows of an array, all of one length; got lists of several"
        ) from error


def _batch(item: Any, groups: Any) -> Batch:
    if not isinstance(item, Mapping):
        return Batch(numbers_in_lists(item), None, groups)
    unknown = [str(name) for name in item if name not in _ARGUMENTS]
    if unknown or "X" not in item:
        raise InvalidTypeError(
            "X",
            "a batch is an array, a list of arrays, or a mapping of 'X' and, if there are any, 'mask' and 'groups'; "
            f"got a {type(item).__name__} of {', '.join(map(repr, map(str, item)))}. Choose the points, as by "
            "(batch['embedding'] for batch in batches)",
        )
    return Batch(numbers_in_lists(item["X"]), item.get("mask"), item.get("groups", groups))


def _stacked(vectors: Sequence[Any], groups: Any) -> Batch:
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1:
        raise InvalidValueError("X", f"vectors of one cloud have one length; got {lengths[0]} and {lengths[-1]}")
    return Batch(np.stack(vectors), None, groups)


def lengths_of(batch: Batch) -> list[int]:
    """Return how many entries the first axis of each of a batch's arrays has."""
    arrays = batch.X if isinstance(batch.X, (list, tuple)) else [batch.X]
    return [int(array.shape[0]) for array in arrays]


def pieces_of(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut a batch along its first axis, which counts independent points or whole groups, into pieces of one size."""
    (length,) = set(lengths_of(batch))
    for start in range(0, length, size):
        part = slice(start, start + size)
        yield Batch(_cut(batch.X, part), None if batch.mask is None else _cut(batch.mask, part), batch.groups)


def _cut(arrays: Any, part: slice) -> Any:
    if isinstance(arrays, (list, tuple)):
        return [None if array is None else array[part] for array in arrays]
    return arrays[part]
