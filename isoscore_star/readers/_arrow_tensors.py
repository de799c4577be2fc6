"""Columns of Arrow whose cells hold several points: tensors of one shape, and lists of lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, types

from isoscore_star.readers._columns import Column
from isoscore_star.readers._source import Block
from isoscore_star.readers._table import refuse


def axes_of(kind: Any, sample: Any) -> tuple[tuple[int | None, ...], int]:
    """Return the axes of a cell before its last, and the length of the last; no axes if its points cannot be told.

    `kind` is Arrow's type: its FixedShapeTensor, an extension such as Array2D of `datasets`, or lists of lists, of
    which those in the sample say the length.
    """
    shape: tuple[Any, ...] = getattr(kind, "shape", ()) if isinstance(kind, pa.BaseExtensionType) else ()
    if isinstance(kind, pa.FixedShapeTensorType):
        order = kind.permutation
        is_plain = order is None or list(order) == sorted(order)
        return (tuple(shape[:-1]), int(shape[-1])) if is_plain else ((), 0)
    storage = getattr(kind, "storage_type", kind)
    if _depth(storage) != 2:
        return (), 0
    if len(shape) == 2 and shape[1]:
        return (shape[0],), int(shape[1])
    outer = storage.list_size if types.is_fixed_size_list(storage) else None
    if types.is_fixed_size_list(storage.value_type):
        return (outer,), int(storage.value_type.list_size)
    inside = [] if sample is None else sample.drop_null().flatten().drop_null()
    return (outer,), len(inside[0]) if len(inside) else 0


def tensors(path: Path, column: Column, start: int, arrays: list[Any]) -> Block:
    """Return the points in all cells, one after another."""
    (array,) = arrays
    no_missing(path, column, start, array)
    if _depth(array.type) == 1:  # a FixedShapeTensor is stored as one list
        values, lengths = array.flatten(), np.full(len(array), int(np.prod(np.array(column.inner, np.int64))))
    else:
        lengths, inside = lengths_of(array), array.flatten()
        wanted = column.inner[0]
        if wanted is not None and (lengths != wanted).any():
            i = int(np.argmax(lengths != wanted))
            refuse(path, start + i, column, f"{lengths[i]} lists, but its type says {wanted}")
        _no_missing_inside(path, column, start, inside, lengths)
        own = lengths_of(inside)
        if (own != column.length).any():
            i = int(np.argmax(own != column.length))
            row = start + int(np.searchsorted(np.cumsum(lengths), i, side="right"))
            refuse(path, row, column, f"a list of {own[i]} numbers, but the first has {column.length}")
        values = inside.flatten()
    _no_missing_inside(path, column, start, values, lengths * column.length)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(int(lengths.sum()), column.length)


def lengths_of(array: Any) -> NDArray[np.int64]:
    """Return the length of each list of an array of them."""
    if types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size, np.int64)
    return np.asarray(array.value_lengths().to_numpy(zero_copy_only=False)).astype(np.int64)


def no_missing(path: Path, column: Column, start: int, array: Any, per_row: int = 1) -> None:
    """Require that no value of an array is missing, of which each row of the table has as many."""
    if array.null_count:
        i = compute.index(array.is_null(), True).as_py()
        refuse(path, start + i // per_row, column, "a missing value (null)")


def _no_missing_inside(path: Path, column: Column, start: int, array: Any, lengths: NDArray[np.int64]) -> None:
    if array.null_count:
        i = compute.index(array.is_null(), True).as_py()
        row = start + int(np.searchsorted(np.cumsum(lengths), i, side="right"))
        refuse(path, row, column, "a missing value (null)")


def innermost(kind: Any) -> Any:
    """Return the type of the values within lists."""
    return innermost(kind.value_type) if _depth(kind) else kind


def _depth(kind: Any) -> int:
    """Return how many lists stand around a type's values."""
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return 1 + _depth(kind.value_type) if is_list else 0
