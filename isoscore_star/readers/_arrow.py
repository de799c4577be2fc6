"""Parquet, Arrow and Feather, read batch by batch; whatever a batch holds is validated before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, ipc, parquet, types

from isoscore_star.readers._cells import CellError, counts, kind_of, number, numbers
from isoscore_star.readers._columns import LEAST_COUNTED, Column, Kind, take
from isoscore_star.readers._source import Block, FileContentError, reading
from isoscore_star.readers._table import TableSource, lists_of, read_cell, refuse

_SAMPLE_ROWS = 1000
_BUFFER_BYTES = 2**16
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_MAGIC_BYTES = 8
"""Before the stream in a file of Arrow's file format."""

Batches = Callable[[list[int], int], Iterator[list[Any]]]
"""Gives the arrays of some columns, by position, in batches of at most so many rows."""


@dataclass(frozen=True)
class _File:
    path: Path
    schema: Any
    rows: int | None
    batches: Batches
    notes: tuple[str, ...] = ()


def open_parquet(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open a .parquet file."""
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

    return _source(_File(path, schema, rows, batches), key, columns)


def _parquet_file(path: Path) -> Any:
    # With pre_buffer a whole group of rows, often the whole file, would be read ahead.
    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _require_rows(path: Path, file: Any) -> None:
    """Hold the number of rows against that of its groups, which alone are read."""
    # A column's own number is left alone: of damaged metadata its reader may end the process.
    metadata = file.metadata
    told = metadata.num_rows
    groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    if told != groups:
        raise FileContentError(path, f"is damaged: it tells of {told} rows, its parts of {groups}")


def open_ipc(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open an .arrow or .feather file, which may be of Arrow's file format or of its stream format."""
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
                # Whoever wrote the file may have put everything into one batch.
                for start in range(0, batch.num_rows, size):
                    yield [array.slice(start, size) for array in arrays]
            if is_stream and memory.tell() != memory.size():
                raise FileContentError(path, f"is damaged: {memory.size() - memory.tell()} bytes follow its end")

    return _source(_File(path, schema, None, batches, notes), key, columns)


def _require_batches(path: Path, memory: Any, count: int) -> None:
    """Hold the batches that the end of a file lists against those that it holds."""
    memory.seek(_MAGIC_BYTES)
    found = sum(message.type == "record batch" for message in ipc.MessageReader.open_stream(memory))
    if found != count:
        raise FileContentError(path, f"is damaged: it holds {found} batches of rows, but lists {count}")


def _ipc_reader(memory: Any) -> Any:
    try:
        return ipc.open_file(memory)
    except pa.ArrowInvalid:
        memory.seek(0)
        return ipc.open_stream(memory)


def _valid(array: Any) -> Any:
    """Check offsets against what they point to, which Arrow trusts, and would follow out of the file."""
    array.validate(full=True)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _source(file: _File, key: str | None, patterns: tuple[str, ...]) -> TableSource:
    with reading(file.path):
        table = _understood(file)
    taken = take(file.path, table, key, patterns, file.rows or 0)
    notes = (*file.notes, *taken.notes)
    if not taken.has_lists:
        read = partial(_blocks, file, taken.columns, partial(_points, file.path, taken.columns))
        return TableSource(str(file.path), (file.rows, len(taken.columns)), read, notes, taken.labels)
    dim = taken.columns[0].length
    read = partial(_blocks, file, taken.columns, partial(_lists, file.path, taken.columns[0], dim))
    return TableSource(f"{file.path}:{taken.labels[0]}", (file.rows, dim), read, notes, taken.labels)


def _blocks(
    file: _File, columns: list[Column], convert: Callable[[int, list[Any]], Block], rows: int
) -> Iterator[Block]:
    start = 0
    with reading(file.path):
        for arrays in file.batches([column.position for column in columns], rows):
            yield convert(start, arrays)
            start += len(arrays[0])


def _understood(file: _File) -> list[Column]:
    """Say what the columns hold, by their types and, for text, integers and lists, by the first rows."""
    kinds = [_kind(field.type) for field in file.schema]
    open_ones = [i for i, kind in enumerate(kinds) if kind in (None, Kind.INTEGERS, Kind.LISTS, Kind.INTEGER_LISTS)]
    batches = file.batches(open_ones, _SAMPLE_ROWS) if open_ones else iter(())
    sample = dict(zip(open_ones, next((arrays for arrays in batches if len(arrays[0])), []), strict=False))
    indices = _index_columns(file.schema)
    return [_column(i, field, kinds[i], sample.get(i), field.name in indices) for i, field in enumerate(file.schema)]


def _column(position: int, field: Any, kind: Kind | None, sample: Any, is_index: bool) -> Column:
    as_text, length, counting = kind is None, 0, False
    if kind is None:
        cells = [] if sample is None else sample.drop_null().to_pylist()
        kind, length = kind_of(cells)
        counting = len(cells) >= LEAST_COUNTED and counts(cells)
    elif kind is Kind.INTEGERS and sample is not None:
        counting = len(sample) >= LEAST_COUNTED and not sample.null_count and counts(list(map(str, sample.to_pylist())))
    elif kind is not Kind.INTEGERS:
        length = _length(field.type, sample)
    return Column(position, field.name, kind, as_text, length, is_index, counting)


def _length(kind: Any, sample: Any) -> int:
    """Length of a column's lists: of the first, where the type does not say."""
    kind = getattr(kind, "storage_type", kind)
    if types.is_fixed_size_list(kind):
        return int(kind.list_size)
    first = None if sample is None else next((row for row in sample if row.is_valid), None)
    return 0 if first is None else len(first)


def _kind(kind: Any) -> Kind | None:
    """Say what a type means; None for text, which may be anything."""
    if isinstance(kind, pa.BaseExtensionType):
        if len(getattr(kind, "shape", ())) > 1:
            return Kind.NESTED
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_floating(kind) or types.is_decimal(kind):
        return Kind.FRACTIONS
    if types.is_integer(kind):
        return Kind.INTEGERS
    if types.is_boolean(kind):
        return Kind.BOOLEANS
    if types.is_null(kind):
        return Kind.EMPTY
    if types.is_string(kind) or types.is_large_string(kind):
        return None
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return Kind.OTHER
    values = _kind(kind.value_type)
    of_values = {Kind.FRACTIONS: Kind.LISTS, Kind.INTEGERS: Kind.INTEGER_LISTS}
    nested = {Kind.LISTS, Kind.INTEGER_LISTS, Kind.NESTED}
    return Kind.NESTED if values in nested else of_values.get(values, Kind.OTHER)  # type: ignore[arg-type]


def _index_columns(schema: Any) -> set[str]:
    """Names of the columns in which pandas kept an index."""
    told = (schema.metadata or {}).get(b"pandas")
    found = json.loads(told).get("index_columns", []) if told else []
    return {name for name in found if isinstance(name, str)}


def _points(path: Path, columns: list[Column], start: int, arrays: list[Any]) -> Block:
    """Make points of the columns that are their dimensions."""
    return np.column_stack([_values(path, column, start, array) for column, array in zip(columns, arrays, strict=True)])


def _values(path: Path, column: Column, start: int, array: Any) -> Block:
    _no_missing(path, column, start, array)
    if column.as_text:
        values = np.empty(len(array))
        for i, cell in enumerate(array.to_pylist()):
            try:
                values[i] = read_cell(number, cell)
            except CellError as error:
                refuse(path, start + i, column, str(error))
        return values
    if types.is_decimal(array.type):
        array = array.cast(pa.float64())
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _lists(path: Path, column: Column, dim: int, start: int, arrays: list[Any]) -> Block:
    """Make points of a column that holds them as lists."""
    (array,) = arrays
    _no_missing(path, column, start, array)
    if column.as_text:
        try:
            return lists_of(numbers, array.to_pylist(), dim)
        except CellError as error:
            message, i = error.args
            refuse(path, start + i, column, message)
    if not dim and len(array):
        refuse(path, start, column, "an empty list")
    if not types.is_fixed_size_list(array.type):
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if (lengths != dim).any():
            i = int(np.argmax(lengths != dim))
            refuse(path, start + i, column, f"a list of {lengths[i]} numbers, but the first has {dim}")
    values = array.flatten()
    _no_missing(path, column, start, values, dim)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), dim)


def _no_missing(path: Path, column: Column, start: int, array: Any, per_row: int = 1) -> None:
    if array.null_count:
        i = compute.index(array.is_null(), True).as_py()
        refuse(path, start + i // per_row, column, "a missing value (null)")
