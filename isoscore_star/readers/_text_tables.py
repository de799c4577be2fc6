"""Text and labels in TSV, CSV and JSONL files, with or without a header."""

from __future__ import annotations

import csv
import io
import json
import reprlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from isoscore_star.readers._errors import FileContentError, SelectionError
from isoscore_star.readers._formats import require_fetched

_SHOWN = 10

TEXT_SUFFIXES = (".tsv", ".csv", ".jsonl")

HEADERLESS = ("sentence", "label")
"""Columns of a file of sentences and labels that has no header."""


class TextTable(NamedTuple):
    """A file's rows, under the names of its columns."""

    path: Path
    columns: list[str]
    rows: list[list[Any]]

    def column(self, name: str) -> list[Any]:
        """Return a column's values."""
        if name not in self.columns:
            raise SelectionError(self.missing(repr(name)))
        if self.columns.count(name) > 1:
            raise SelectionError(self.path, f"has {self.columns.count(name)} columns {name!r}; rename all but one")
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def missing(self, wanted: str) -> str:
        """Return a message that a column is missing, with those that exist."""
        shown = ", ".join(repr(name if len(name) <= 40 else name[:37] + "...") for name in self.columns[:_SHOWN])
        shown += f" and {len(self.columns) - _SHOWN} more" if len(self.columns) > _SHOWN else ""
        hint = "" if self.path.suffix == ".jsonl" else ". If it has no header, name its columns with --columns"
        return f"{self.path}: has no column {wanted}; its columns are {shown or 'none'}{hint}"


def read_text_table(path: Path, columns: Sequence[str] | None = None, known: Collection[str] = ()) -> TextTable:
    """Read a table of text: ``.tsv`` without quoting, ``.csv`` with quoting, or ``.jsonl``, one object a line."""
    if path.suffix.lower() not in TEXT_SUFFIXES:
        raise SelectionError(path, f"unknown suffix {path.suffix!r}; the known ones are {' '.join(TEXT_SUFFIXES)}")
    require_file(path)
    require_fetched(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # line ends stay as they are
    except OSError as error:
        raise FileContentError(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileContentError(path, f"is not UTF-8 text ({error.reason} at byte {error.start})") from error
    if path.suffix.lower() == ".jsonl":
        return _table_of_objects(path, text)
    rows = _tab_rows(text) if path.suffix.lower() == ".tsv" else _csv_rows(path, text)
    if not rows:
        raise FileContentError(path, "is empty")
    header, rows = _split_header(rows, columns, known)
    for number, row in rows:
        if len(row) != len(header):
            raise FileContentError(path, f"line {number} has {len(row)} columns, {len(header)} are expected")
    return _not_empty(TextTable(path, header, [row for _, row in rows]))


def require_file(path: Path) -> None:
    """Require that a file exists."""
    try:
        exists = path.is_file()
    except OSError as error:
        raise SelectionError(reprlib.repr(str(path)), f"{error.strerror}") from error
    if not exists:
        raise SelectionError(path, "there is no such file")


_Rows = list[tuple[int, list[str]]]


def _tab_rows(text: str) -> _Rows:
    """Split at line ends and tabs only: quotes and Unicode's line separators are text."""
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line]


def _csv_rows(path: Path, text: str) -> _Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise FileContentError(path, f"line {reader.line_num} cannot be read as CSV: {error}") from error


def _split_header(rows: _Rows, columns: Sequence[str] | None, known: Collection[str]) -> tuple[list[str], _Rows]:
    first = [cell.strip() for cell in rows[0][1]]
    if columns is not None:
        return list(columns), rows[1:] if first == list(columns) else rows
    if not set(first) & set(known) and all(len(row) == 2 for _, row in rows):
        # Without a header, the labels are the column in which the first row's value recurs.
        recurring = [index for index in (0, 1) if any(row[index] == rows[0][1][index] for _, row in rows[1:])]
        if len(recurring) == 1:
            return list(HEADERLESS if recurring == [1] else reversed(HEADERLESS)), rows
    return first, rows[1:]


def _table_of_objects(path: Path, text: str) -> TextTable:
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileContentError(path, f"line {number} is not JSON: {error.msg}") from error
        except RecursionError as error:
            raise FileContentError(path, f"line {number} is nested too deeply") from error
        except ValueError as error:  # of Python's int
            raise FileContentError(path, f"line {number} holds a number of too many digits") from error
        if not isinstance(value, dict):
            raise FileContentError(path, f"line {number} is not a JSON object")
        objects.append(value)
    names = list(dict.fromkeys(name for value in objects for name in value))
    return _not_empty(TextTable(path, names, [[value.get(name) for name in names] for value in objects]))


def _not_empty(table: TextTable) -> TextTable:
    if not table.rows:
        raise FileContentError(table.path, "holds no rows")
    return table
