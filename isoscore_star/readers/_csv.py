"""Text tables: a row is a point, and columns without numbers are left out if a header names them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import types

from isoscore_star.readers._source import FileContentError, no_keys, reading
from isoscore_star.readers._table import TableSource, ignored, stacked

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# A row has to fit into a block, and this holds a row of half a million numbers.
_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class _Text:
    """How a file is laid out: names of its columns, and how many lines its header has (0 or more)."""

    path: Path
    labels: list[str]
    header_lines: int

    def open(self, numbers: list[str] | None = None) -> Any:
        """Start to read; columns have their positions as names, since labels may repeat."""
        columns = [str(i) for i in range(len(self.labels))]
        return arrow_csv.open_csv(
            self.path,
            arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=columns, skip_rows=self.header_lines),
            arrow_csv.ParseOptions(delimiter=_DELIMITERS[self.path.suffix.lower()]),
            arrow_csv.ConvertOptions(
                include_columns=numbers or columns,
                column_types={column: pa.float64() for column in numbers or ()},
            ),
        )

    def batches(self, rows: int, numbers: list[str]) -> Iterator[Any]:
        """Read all rows of some columns as float64."""
        with reading(self.path, pa.ArrowException), self.open(numbers) as reader:
            yield from reader


def open_csv(path: Path, key: str | None) -> TableSource:
    """Open a .csv or .tsv file; its start tells whether it has a header, and which columns hold numbers."""
    no_keys(path, key)
    with reading(path, pa.ArrowException, UnicodeDecodeError, csv.Error):
        text, notes = _layout(path)
        with text.open() as reader:
            schema = reader.schema
    named = bool(text.header_lines)
    used = [field.name for field in schema if _may_be_number(field.type)]
    left_out = [text.labels[int(name)] for name in schema.names if name not in used]
    if left_out and not named:
        raise FileContentError(
            f"{path}: column {left_out[0]} does not hold numbers, and there is no header that names it"
        )
    # pandas writes its index without a name.
    unnamed = [name for name in used if named and not text.labels[int(name)]]
    used = [name for name in used if name not in unnamed]
    if not used:
        raise FileContentError(f"{path}: has no columns of numbers separated by {_DELIMITERS[path.suffix.lower()]!r}")
    notes += ignored(left_out, "columns that hold no numbers")
    notes += ignored([f"column {name}" for name in unnamed], "columns without a name (an index)")
    points = partial(stacked, name=str(path), labels=[text.labels[int(name)] for name in used])
    return TableSource(str(path), (None, len(used)), partial(text.batches, numbers=used), points, notes)


def _layout(path: Path) -> tuple[_Text, tuple[str, ...]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=_DELIMITERS[path.suffix.lower()])
        first = next(filter(None, rows), None)
        lines = rows.line_num
    if first is None:
        raise FileContentError(f"{path}: is empty")
    positions = [str(i) for i in range(len(first))]
    # Columns without names get these from pandas, perhaps after an index. A mere (0, 1) is likelier a point.
    names = first if first[0] else first[1:]
    if len(names) > 2 and names == positions[: len(names)]:
        return _Text(path, first, lines), (f"took the first row, 0 to {names[-1]}, as names of the columns",)
    if any(map(_is_name, first)):
        return _Text(path, first, lines), ()
    return _Text(path, positions, 0), ()


def _is_name(field: str) -> bool:
    if field in arrow_csv.ConvertOptions().null_values:
        return False
    try:
        float(field)
    except ValueError:
        return True
    return False


def _may_be_number(kind: Any) -> bool:
    # A column that is empty so far is one of numbers that are missing, which is said when it is read.
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind))
