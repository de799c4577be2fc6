"""Parquet, Arrow and Feather files, read batch by batch; each batch is validated before it is used."""

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
from pyarrow import ipc, parquet, types

from isoscore_star.readers._arrow_columns import column_of, index_columns, kind_of_type, lists, points
from isoscore_star.readers._arrow_tensors import lengths_of, tensors
from isoscore_star.readers._choice import take
from isoscore_star.readers._columns import LISTS, Column, Kind, by_name
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._source import Block
from isoscore_star.readers._table import TableSource

_SAMPLE_ROWS = 1000
_BUFFER_BYTES = 2**16
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_MAGIC_BYTES = 8  # before the stream in a file of Arrow's file format

Batches = Callable[[list[int], int], Iterator[list[Any]]]
"""From positions of columns and the most rows of a batch to the columns' arrays, batch by batch."""


@dataclass(frozen=True)
class _File:
    path: Path
    schema: Any
    rows: int | None
    batches: Batches
    notes: tuple[str, ...] = ()
    partition: tuple[str, ...] = ()  # columns that the names of folders are


def open_parquet(
    path: Path, key: str | None, columns: tuple[str, ...] = (), partition: Mapping[str, Any] | None = None
) -> TableSource:
    """Open a .parquet file; `partition` has columns that are the same in all rows."""
    return _source(_within(partition, _parquet(path)), key, columns)


def parquet_column(path: Path, name: str | None, partition: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the values of a column of a .parquet file."""
    return _column(_within(partition, _parquet(path)), name)


def _parquet(path: Path) -> _File:
    with reading(path), _parquet_file(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        _require_rows(path, file)
    names = schema.names

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        # Parquet selects by name, and a name may stand for several columns.
        wanted = list(range(len(names))) if len(set(names)) < len(names) else sorted(positions)
        with _parquet_file(path) as file:
            for batch in file.iter_batches(size, columns=[names[i] for i in wanted]):
                yield [_valid(batch.column(wanted.index(position))) for position in positions]

    return _File(path, schema, rows, batches)


def _parquet_file(path: Path) -> Any:
    # With pre_buffer a whole group of rows, often the whole file, would be read ahead.
    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _require_rows(path: Path, file: Any) -> None:
    """Require that the file and its row groups count the same rows, since only the groups are read."""
    # Not the columns' counts: with damaged metadata, reading those may end the process.
    rows = file.metadata.num_rows
    in_groups = sum(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups))
    if rows != in_groups:
        raise FileContentError(path, f"is damaged: its metadata counts {rows} rows, its row groups {in_groups}")


def open_ipc(
    path: Path, key: str | None, columns: tuple[str, ...] = (), partition: Mapping[str, Any] | None = None
) -> TableSource:
    """Open an .arrow or .feather file, which may be of Arrow's file format or of its stream format."""
    return _source(_within(partition, _ipc(path)), key, columns)


def ipc_column(path: Path, name: str | None, partition: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the values of a column of an .arrow or .feather file."""
    return _column(_within(partition, _ipc(path)), name)


def _ipc(path: Path) -> _File:
    notes: tuple[str, ...] = ()
    with reading(path), pa.memory_map(str(path)) as memory:
        reader = _ipc_reader(memory)
        schema = reader.schema
        if isinstance(reader, ipc.RecordBatchStreamReader):
            memory.seek(memory.size() - len(_END_OF_STREAM))
            if memory.read() != _END_OF_STREAM:
                notes = ("lacks the mark that ends an Arrow stream: it may have been cut",)
        else:
            _require_batches(path, memory, reader.num_record_batches)

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        with pa.memory_map(str(path)) as memory:
            reader = _ipc_reader(memory)
            is_stream = isinstance(reader, ipc.RecordBatchStreamReader)
            for batch in reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)):
                arrays = [_valid(batch.column(position)) for position in positions]
                # The whole file may be one batch.
                for start in range(0, batch.num_rows, size):
                    yield [array.slice(start, size) for array in arrays]
            if is_stream and memory.tell() != memory.size():
                raise FileContentError(path, f"is damaged: {memory.size() - memory.tell()} bytes follow its end")

    return _File(path, schema, None, batches, notes)


def _require_batches(path: Path, memory: Any, count: int) -> None:
    """Require as many batches in a file as its footer lists."""
    memory.seek(_MAGIC_BYTES)
    batches = sum(message.type == "record batch" for message in ipc.MessageReader.open_stream(memory))
    if batches != count:
        raise FileContentError(path, f"is damaged: it holds {batches} batches of rows, but lists {count}")


def _ipc_reader(memory: Any) -> Any:
    try:
        return ipc.open_file(memory)
    except pa.ArrowInvalid:
        memory.seek(0)
        return ipc.open_stream(memory)


def _within(partition: Mapping[str, Any] | None, file: _File) -> _File:
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


def _valid(array: Any) -> Any:
    """Return an array's plain values, its offsets validated, since Arrow would follow them out of the file."""
    array.validate(full=True)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _column(file: _File, name: str | None) -> list[Any]:
    cells: list[Any] = []
    with reading(file.path):
        position = by_name(file.path, _columns(file), name).position
        for (array,) in file.batches([position], _SAMPLE_ROWS):
            cells += array.to_pylist()
    return cells


def _source(file: _File, key: str | None, patterns: tuple[str, ...]) -> TableSource:
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


def _of_tensors(file: _File, column: Column, name: str, notes: tuple[str, ...]) -> TableSource:
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
    file: _File, columns: list[Column], convert: Callable[[int, list[Any]], Block], rows: int
) -> Iterator[Block]:
    start = 0
    with reading(file.path):
        for arrays in file.batches([column.position for column in columns], rows):
            yield convert(start, arrays)
            start += len(arrays[0])


def _columns(file: _File) -> list[Column]:
    """Return the columns, their kinds by their types and, for text, integers and lists, by the first rows."""
    kinds = [kind_of_type(field.type) for field in file.schema]
    sampled = [i for i, kind in enumerate(kinds) if kind in (None, Kind.INTEGERS, *LISTS)]
    batches = file.batches(sampled, _SAMPLE_ROWS) if sampled else iter(())
    sample = dict(zip(sampled, next((arrays for arrays in batches if len(arrays[0])), []), strict=False))
    indices = index_columns(file.schema) | set(file.partition)
    return [column_of(i, field, kinds[i], sample.get(i), field.name in indices) for i, field in enumerate(file.schema)]
