"""Text tables: a row is a point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from isoscore_star.readers._cells import CellError, boolean, numbers
from isoscore_star.readers._choice import take
from isoscore_star.readers._columns import Column, Kind, Taken, by_name
from isoscore_star.readers._errors import reading
from isoscore_star.readers._layout import Layout, require_width
from isoscore_star.readers._memory import require_memory
from isoscore_star.readers._sniffing import sniff
from isoscore_star.readers._source import Block, block_rows
from isoscore_star.readers._table import TableSource, cells_of, lists_of, refuse, refusing
from isoscore_star.readers._text_files import most_letters

_CHUNK_CELLS = 2**17  # cells held as text at a time


def open_csv(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open a .csv or .tsv file; layout and kinds of columns come from its first rows."""
    with reading(path):
        layout, table, notes = sniff(path)
    taken = take(path, table, key, columns)
    dim = taken.columns[0].length if taken.has_lists else len(taken.columns)
    rows = min(block_rows(dim), most_letters(path) // layout.row_letters + 1)
    require_memory(str(path), 16 * rows * dim, f"a block of {rows:,} points of {dim:,} dimensions")
    reader = _Reader(layout, len(table), taken, dim)
    name = f"{path}:{taken.columns[0].label}" if taken.has_lists else str(path)
    return TableSource(name, (None, dim), reader.blocks, (*notes, *taken.notes), taken.labels)


def csv_column(path: Path, name: str | None) -> list[str]:
    """Return the cells of a column, as text."""
    cells: list[str] = []
    with reading(path):
        layout, table, _ = sniff(path)
        position = by_name(path, table, name).position
        for chunk, line in layout.chunks(max(1, _CHUNK_CELLS // len(table))):
            for i, row in enumerate(chunk):
                require_width(path, row, len(table), len(cells), line and line + i)
                cells.append(row[position])
    return cells


class _Reader:
    """Reads the columns that were taken, row by row."""

    def __init__(self, layout: Layout, width: int, taken: Taken, dim: int) -> None:
        self._layout, self._width, self._taken, self._dim = layout, width, taken, dim
        self._number = layout.number
        positions = [column.position for column in taken.columns]
        # itemgetter of a single position returns no tuple
        self._pick: Callable[[list[str]], Any] = (
            itemgetter(*positions) if len(positions) > 1 else lambda row: (row[positions[0]],)
        )

    def blocks(self, rows: int) -> Iterator[Block]:
        """Read all points."""
        start, path = 0, self._layout.path
        with reading(path):
            for chunk, line in self._layout.chunks(max(1, min(rows, _CHUNK_CELLS // self._width))):
                for i, row in enumerate(chunk):
                    if len(row) != self._width:
                        require_width(path, row, self._width, start + i, line and line + i)
                for column in self._taken.watched:
                    self._watch(column, chunk, start, line)
                yield self._lists(chunk, start, line) if self._taken.has_lists else self._points(chunk, start, line)
                start += len(chunk)

    def _points(self, chunk: list[list[str]], start: int, line: int | None) -> Block:
        cells = chain.from_iterable(map(self._pick, chunk))
        if not self._layout.comma and all(column.kind is not Kind.BOOLEANS for column in self._taken.columns):
            try:
                flat = np.fromiter(map(float, cells), np.float64, len(chunk) * self._dim)
            except ValueError:
                pass  # reading cell by cell, below, raises with the place
            else:
                if not np.isnan(flat).any():
                    return flat.reshape(-1, self._dim)
        block = np.empty((len(chunk), self._dim))
        for j, column in enumerate(self._taken.columns):
            read = boolean if column.kind is Kind.BOOLEANS else self._number
            with refusing(self._layout.path, start, column, line):
                block[:, j] = list(cells_of(read, [row[column.position] for row in chunk]))
        return block

    def _lists(self, chunk: list[list[str]], start: int, line: int | None) -> Block:
        (column,) = self._taken.columns
        with refusing(self._layout.path, start, column, line):
            return lists_of(numbers, [row[column.position] for row in chunk], self._dim)

    def _watch(self, column: Column, chunk: list[list[str]], start: int, line: int | None) -> None:
        """Raise for a column that was left out because of its first cells, but whose later cells are a dimension's."""
        for i, row in enumerate(chunk):
            cell = row[column.position]
            if cell.isdigit() and column.kind is Kind.INTEGERS:
                continue
            try:
                value = self._number(cell)
            except CellError:
                continue
            if column.kind is Kind.EMPTY or (value != round(value, 0) if np.isfinite(value) else True):
                refuse(
                    self._layout.path,
                    start + i,
                    column,
                    f"{cell!r}, but the column held {column.kind.value} before, and was left out",
                    line and line + i,
                )
