"""Lance: folders of a table, read batch by batch, in a process of its own.

A damaged table may end the process that reads it, by a panic or by the memory that it asks for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from isoscore_star.readers._arrow_tables import ArrowTable, cells_of, plain_values, source_of
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._table import TableSource

if find_spec("lance") is None:  # which the other process imports
    raise ModuleNotFoundError("No module named 'lance'", name="pylance")

_PROGRAM = Path(__file__).with_name("_lance_process.py")
_HEAD_ROWS = 1000
"""Rows that are read with the schema, since columns are known by the first ones."""


def open_lance(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open a .lance folder, in its newest version."""
    return source_of(_table(path), key, columns)


def lance_column(path: Path, name: str | None) -> list[Any]:
    """Return the values of a column of a .lance folder."""
    return cells_of(_table(path), name)


def _table(path: Path) -> ArrowTable:
    with reading(path):
        schema, *head = _read(path, 0, _HEAD_ROWS, _HEAD_ROWS, [])
    rows = int(schema.metadata[b"rows"])

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        count, names = 0, [schema.names[position] for position in positions]
        for batch in head:
            count += batch.num_rows
            for start in range(0, batch.num_rows, size):
                yield [plain_values(batch.column(name).slice(start, size)) for name in names]
        if count < rows:
            for batch in islice(_read(path, count, 0, size, names), 1, None):
                count += batch.num_rows
                yield [plain_values(batch.column(name)) for name in names]
        if count != rows:
            raise FileContentError(path, f"is damaged: its metadata counts {rows:,} rows, but {count:,} were read")

    return ArrowTable(path, schema.remove_metadata(), rows, batches)


def _read(path: Path, start: int, most: int, size: int, columns: list[str]) -> Iterator[Any]:
    """Start the program, and give the schema and the batches that it writes."""
    program = _PROGRAM.read_text(encoding="utf-8")  # not by its path, whose folder would be searched for modules
    command = [sys.executable, "-c", program, str(path), str(start), str(most), str(size), *columns]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=environment)
        failed: Exception | None = None
        try:
            stream = ipc.open_stream(process.stdout)
            yield stream.schema
            yield from stream
        except GeneratorExit:  # whoever reads wanted only the first batches
            process.kill()
            raise
        except (OSError, pa.ArrowInvalid) as error:  # the program ended before the stream
            failed = error
        finally:
            process.stdout.close()  # type: ignore[union-attr]  # so that a program that still writes ends, too
            code = process.wait()
        if code:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
            raise ValueError(
                lines[-1] if code == 1 and lines else f"its reader was ended by signal {-code}"
            ) from failed
        if failed is not None:
            raise failed
