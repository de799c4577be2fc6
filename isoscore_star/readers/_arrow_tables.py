"""Tables of Arrow, from whatever file holds them: the columns that are points, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from isoscore_star.readers._arrow_columns import column_of, index_columns, kind_of_type, lists, points
from isoscore_star.readers._arrow_tensors import lengths_of, tensors
from isoscore_star.readers._choice import take
from isoscore_star.readers._columns import LISTS, Column, Kind, by_name
from isoscore_star.readers._errors import reading
from isoscore_star.readers._source import Block
from isoscore_star.readers._table import TableSource

_SAMPLE_ROWS = 1000

Batches = Callable[[list[int], int], Iterator[list[Any]]]
"""From positions of columns and the most rows of a batch to the columns' arrays, batch by batch."""


@dataclass(frozen=True)
class ArrowTable:
    path: Path
    schema: Any
    rows: int | None
    batches: Batches
    notes: tuple[str, ...] = ()
    partition: tuple[str, ...] = ()  # columns that the names of folders are


def within(partition: Mapping[str, Any] | None, file: ArrowTable) -> ArrowTable:
    """Add the columns that the names of the file's folders are, but those that it has itself."""
    added = {name: value for name, value in (partition or {}).items() if name not in file.schema.names}
    if not added:
        return file
    count, values = len(file.schema), [pa.scalar(value) for value in added.values()]
    schema = file.schema
    for name, value in zip(added, values, strict=True):
        schema = schema.append(pa.field(name, value.type))

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        own = [position for position in positions if position < count] or [0]  # which says how many rows there are
        for arrays in file.batches(own, size):
            found = dict(zip(own, arrays, strict=True))
            yield [found[i] if i < count else pa.repeat(values[i - count], len(arrays[0])) for i in positions]

    return replace(file, schema=schema, batches=batches, partition=tuple(added))


def plain_values(array: Any) -> Any:
    """Return an array's plain values, its offsets validated, since Arrow would follow them out of the file."""
    array.validate(full=True)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def cells_of(file: ArrowTable, name: str | None) -> list[Any]:
    cells: list[Any] = []
    with reading(file.path):
        position = by_name(file.path, _columns(file), name).position
        for (array,) in file.batches([position], _SAMPLE_ROWS):
            cells += array.to_pylist()
    return cells


def source_of(file: ArrowTable, key: str | None, patterns: tuple[str, ...]) -> TableSource:
    with reading(file.path):
        table = _columns(file)
    taken = take(file.path, table, key, patterns, file.rows or 0)
    notes = (*file.notes, *taken.notes)
    if not taken.has_lists:
        read = partial(_blocks, file, taken.columns, partial(points, file.path, taken.columns))
        return TableSource(str(file.path), (file.rows, len(taken.columns)), read, notes, taken.labels)
    column, name = taken.columns[0], f"{file.path}:{taken.labels[0]}"
    if column.inner:
        return _of_tensors(file, column, name, notes)
    read = partial(_blocks, file, taken.columns, partial(lists, file.path, column, column.length))
    return TableSource(name, (file.rows, column.length), read, notes, taken.labels)


def _of_tensors(file: ArrowTable, column: Column, name: str, notes: tuple[str, ...]) -> TableSource:
    """Return the points of a column each of whose cells holds several: a sequence of them, or an image."""
    rows = file.rows
    if rows is None:
        with reading(file.path):
            rows = sum(len(array) for (array,) in file.batches([column.position], _SAMPLE_ROWS))
    convert = partial(tensors, file.path, column)
    inside = prod(size or 1 for size in column.inner)

    def read(points: int) -> Iterator[Block]:
        return _blocks(file, [column], convert, max(1, min(points // inside, _SAMPLE_ROWS)))

    def lengths() -> NDArray[np.int64]:
        found = [np.zeros(0, np.int64)]
        with reading(file.path):
            for (array,) in file.batches([column.position], _SAMPLE_ROWS):
                found.append(lengths_of(array))
        return np.concatenate(found)

    ragged = lengths if None in column.inner else None
    return TableSource(name, (rows, *column.inner, column.length), read, notes, (column.name,), ragged)


def _blocks(
    file: ArrowTable, columns: list[Column], convert: Callable[[int, list[Any]], Block], rows: int
) -> Iterator[Block]:
    start = 0
    with reading(file.path):
        for arrays in file.batches([column.position for column in columns], rows):
            yield convert(start, arrays)
            start += len(arrays[0])


def _columns(file: ArrowTable) -> list[Column]:
    """Return the columns, their kinds by their types and, for text, integers and lists, by the first rows."""
    kinds = [kind_of_type(field.type) for field in file.schema]
    sampled = [i for i, kind in enumerate(kinds) if kind in (None, Kind.INTEGERS, *LISTS)]
    batches = file.batches(sampled, _SAMPLE_ROWS) if sampled else iter(())
    sample = dict(zip(sampled, next((arrays for arrays in batches if len(arrays[0])), []), strict=False))
    indices = index_columns(file.schema) | set(file.partition)
    return [column_of(i, field, kinds[i], sample.get(i), field.name in indices) for i, field in enumerate(file.schema)]
