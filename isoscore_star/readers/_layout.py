"""The layout of a text table, and its rows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from isoscore_star.readers._cells import decimal_comma, number
from isoscore_star.readers._errors import FileContentError
from isoscore_star.readers._text_files import opened

_LONGEST_LINE = 2**27  # letters, of some millions of numbers
SAMPLE_ROWS, SAMPLE_CELLS = 1000, 2**20


@dataclass(frozen=True)
class Layout:
    """Layout of a text table."""

    path: Path
    separator: str
    quotes: bool = True  # they keep a cell together; otherwise they are text
    comma: bool = False  # before decimals
    skipped: int = 0  # rows before the first point: comments and a header
    row_letters: int = 1  # mean length of a row

    @property
    def number(self) -> Callable[[str], float]:
        """Reader of a cell that holds a number."""
        return decimal_comma if self.comma else number

    def chunks(self, rows: int) -> Iterator[tuple[list[list[str]], int | None]]:
        """Read the rows that are points, some at a time, with the line of the first if each row is one line."""
        with opened(self.path, encoding="utf-8-sig", newline="") as file:
            reader = self.reader(lines_of(file, self.path))
            filled = filter(None, reader)  # an empty line is no row
            with long_fields():
                for _ in islice(filled, self.skipped):
                    pass
            while True:
                line = reader.line_num
                with long_fields():
                    chunk = list(islice(filled, rows))
                if not chunk:
                    return
                yield chunk, line + 1 if reader.line_num - line == len(chunk) else None

    def reader(self, lines: Iterator[str]) -> Any:
        """Split lines into rows of cells."""
        blanks = self.separator == " "
        return csv.reader(
            map(str.strip, lines) if blanks else lines,
            delimiter=self.separator,
            quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE,
            skipinitialspace=blanks,  # several blanks are one separator
            strict=True,
        )

    def sample(self) -> list[list[str]]:
        """Read the first rows."""
        rows: list[list[str]] = []
        cells = 0
        for (row,), _ in islice(self.chunks(1), SAMPLE_ROWS):
            rows.append(row)
            cells += len(row)
            if cells >= SAMPLE_CELLS and len(rows) >= 3:
                break
        return rows


def require_width(path: Path, row: list[str], width: int, index: int, line: int | None = None) -> None:
    """Require as many cells in a row as in the others."""
    if len(row) != width:
        where = f"row {index} (counted from 0{'' if line is None else f', line {line}'})"
        raise FileContentError(path, f"{where} has {len(row):,} columns, the first line {width:,}")


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """Return the lines of a file; raise at one that is too long for a row."""
    for line in iter(partial(file.readline, _LONGEST_LINE), ""):
        if len(line) == _LONGEST_LINE:
            raise FileContentError(path, f"a line has more than {_LONGEST_LINE:,} letters, so it is no text table")
        yield line


@contextmanager
def long_fields() -> Iterator[None]:
    """Allow cells as long as a line: a list of numbers kept as text may exceed the csv module's limit."""
    before = csv.field_size_limit(_LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)
