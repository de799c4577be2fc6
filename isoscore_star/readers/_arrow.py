"""Parquet, Arrow and Feather files, read batch by batch; each batch is validated before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet

from isoscore_star.readers._arrow_tables import ArrowTable, cells_of, plain_values, source_of, within
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._table import TableSource

_BUFFER_BYTES = 2**16
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_MAGIC_BYTES = 8  # before the stream in a file of Arrow's file format


def open_parquet(
    path: Path, key: str | None, columns: tuple[str, ...] = (), partition: Mapping[str, Any] | None = None
) -> TableSource:
    """Open a .parquet file; `partition` has columns that are the same in all rows."""
    return source_of(within(partition, _parquet(path)), key, columns)


def parquet_column(path: Path, name: str | None, partition: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the values of a column of a .parquet file."""
    return cells_of(within(partition, _parquet(path)), name)


def _parquet(path: Path) -> ArrowTable:
    with reading(path), _parquet_file(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        _require_rows(path, file)
    names = schema.names

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        # Parquet selects by name, and a name may stand for several columns.
        wanted = list(range(len(names))) if len(set(names)) < len(names) else sorted(positions)
        with _parquet_file(path) as file:
            for batch in file.iter_batches(size, columns=[names[i] for i in wanted]):
                yield [plain_values(batch.column(wanted.index(position))) for position in positions]

    return ArrowTable(path, schema, rows, batches)


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
    return source_of(within(partition, _ipc(path)), key, columns)


def ipc_column(path: Path, name: str | None, partition: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the values of a column of an .arrow or .feather file."""
    return cells_of(within(partition, _ipc(path)), name)


def _ipc(path: Path) -> ArrowTable:
    notes: tuple[str, ...] = ()
    with reading(path), pa.memory_map(str(path)) as memory:
        reader = _ipc_reader(memory)
        schema = reader.schema
        if isinstance(reader, ipc.RecordBatchStreamReader):
            memory.seek(memory.size() - len(END_OF_STREAM))
            if memory.read() != END_OF_STREAM:
                notes = ("lacks the mark that ends an Arrow stream: it may have been cut",)
        else:
            _require_batches(path, memory, reader.num_record_batches)

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        with pa.memory_map(str(path)) as memory:
            reader = _ipc_reader(memory)
            is_stream = isinstance(reader, ipc.RecordBatchStreamReader)
            for batch in reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)):
                arrays = [plain_values(batch.column(position)) for position in positions]
                # The whole file may be one batch.
                for start in range(0, batch.num_rows, size):
                    yield [array.slice(start, size) for array in arrays]
            if is_stream and memory.tell() != memory.size():
                raise FileContentError(path, f"is damaged: {memory.size() - memory.tell()} bytes follow its end")

    return ArrowTable(path, schema, None, batches, notes)


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
