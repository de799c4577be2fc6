"""Parquet, Arrow and Feather, read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet, types

from isoscore_star.readers._source import Candidate, FileContentError, SelectionError, choose, reading
from isoscore_star.readers._table import TableSource, ignored, stacked, unpacked

_INDEX_PREFIX = "__index_level_"
"""Of the columns in which pandas keeps an index, which is no dimension."""

Batches = Callable[[list[str], int], Iterable[Any]]


def open_parquet(path: Path, key: str | None) -> TableSource:
    """Open a .parquet file."""
    with reading(path, pa.ArrowException), parquet.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows

    def batches(columns: list[str], size: int) -> Iterator[Any]:
        with reading(path, pa.ArrowException), parquet.ParquetFile(path) as file:
            yield from file.iter_batches(size, columns=columns)

    return _source(path, schema, rows, batches, key)


def open_ipc(path: Path, key: str | None) -> TableSource:
    """Open an .arrow or .feather file, which may be of Arrow's file format or of its stream format."""
    with reading(path, pa.ArrowException), pa.memory_map(str(path)) as memory:
        schema = _ipc_reader(memory).schema

    def batches(columns: list[str], size: int) -> Iterator[Any]:
        with reading(path, pa.ArrowException), pa.memory_map(str(path)) as memory:
            reader = _ipc_reader(memory)
            count = getattr(reader, "num_record_batches", None)
            found = iter(reader) if count is None else map(reader.get_batch, range(count))
            for batch in found:
                # Whoever wrote the file may have put everything into one batch.
                for start in range(0, batch.num_rows, size):
                    yield batch.select(columns).slice(start, size)

    return _source(path, schema, None, batches, key)


def _ipc_reader(memory: Any) -> Any:
    try:
        return ipc.open_file(memory)
    except pa.ArrowInvalid:
        memory.seek(0)
        return ipc.open_stream(memory)


def _source(path: Path, schema: Any, rows: int | None, batches: Batches, key: str | None) -> TableSource:
    lists = {field.name: field.type for field in schema if _is_list(field.type)}
    if key is None and not lists:
        return _of_columns(path, schema, rows, batches)
    if key is not None and key in schema.names and key not in lists:
        raise SelectionError(
            f"{path}: column {key!r} ({schema.field(key).type}) holds no lists of numbers, which points are"
        )
    dims = {label: _dim(path, label, kind, batches) for label, kind in lists.items()}
    floats = {label: types.is_floating(kind.value_type) for label, kind in lists.items()}
    candidates = {label: Candidate((rows or 0, dims[label]), floats[label]) for label in lists}
    label = choose(path, candidates, key)
    name = f"{path}:{label}"
    points = partial(unpacked, name=name, label=label, dim=dims[label])
    return TableSource(name, (rows, dims[label]), partial(batches, [label]), points)


def _of_columns(path: Path, schema: Any, rows: int | None, batches: Batches) -> TableSource:
    used = [f.name for f in schema if _is_number(f.type) and not f.name.startswith(_INDEX_PREFIX)]
    if not used:
        raise FileContentError(f"{path}: has neither columns of numbers nor a column of lists of numbers")
    notes = ignored([name for name in schema.names if name not in used], "columns that hold no numbers")
    points = partial(stacked, name=str(path), labels=used)
    return TableSource(str(path), (rows, len(used)), partial(batches, used), points, notes)


def _is_number(kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _is_list(kind: Any) -> bool:
    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return is_list and _is_number(kind.value_type)


def _dim(path: Path, label: str, kind: Any, batches: Batches) -> int:
    """Length of a column's lists: of the first, where the type does not say."""
    if types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in batches([label], 1):
        first = batch.column(0)[0]
        return len(first) if first.is_valid else 0
    return 0
