"""Tables whose rows are points: a column of lists, or columns of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from isoscore_star.readers._cells import CellError
from isoscore_star.readers._columns import Column
from isoscore_star.readers._errors import FileContentError
from isoscore_star.readers._names import quoted
from isoscore_star.readers._source import Block, block_rows, joined


@dataclass(frozen=True)
class TableSource:
    """Points from the rows of a table.

    Attributes
    ----------
    name, shape, notes, columns :
        See `isoscore_star.readers.ArraySource`.
    read : callable
        Reads the points from the first one on, in arrays of about as many points as its argument says.
    lengths_of_rows : callable, optional
        Reads how many points each row holds, where that differs from row to row.
    """

    name: str
    shape: tuple[int | None, ...]
    read: Callable[[int], Iterable[Block]]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    lengths_of_rows: Callable[[], NDArray[np.int64]] | None = None

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return int(self.shape[-1] or 0)

    def blocks(self) -> Iterator[Block]:
        """Return the points in blocks; see `isoscore_star.readers.ArraySource`."""
        rows = block_rows(self.dim)
        return joined((block for block in self.read(rows) if len(block)), rows)

    def whole(self) -> NDArray[Any]:
        """Return the table at once."""
        blocks = list(self.blocks())
        points = np.concatenate(blocks) if blocks else np.empty((0, self.dim))
        tail = self.shape[1:]
        return points if None in tail else points.reshape(-1, *(int(size or 0) for size in tail))

    def lengths(self) -> NDArray[np.int64] | None:
        """Return how many points each row holds, if that differs; see `isoscore_star.readers.ArraySource`."""
        return None if self.lengths_of_rows is None else self.lengths_of_rows()

    def place(self, row: int) -> tuple[str, int]:
        """Return the table's name and the point's number; see `isoscore_star.readers.ArraySource`."""
        return self.name, row


def refuse(path: Path, row: int, column: Column, what: str, line: int | None = None) -> NoReturn:
    """Raise for a value of a table that cannot be used."""
    place = f"row {row} (counted from 0{'' if line is None else f', line {line}'}), column {quoted(column.name)}"
    raise FileContentError(
        path, f"{place}: {what}. Mend it, remove its row, or name the columns to take without it (--columns)"
    )


@contextmanager
def refusing(path: Path, start: int, column: Column, line: int | None = None) -> Iterator[None]:
    """Raise for the cell of a `CellError`; `start` and `line` are the places of the first cell that is read."""
    try:
        yield
    except CellError as error:
        message, i = error.args
        refuse(path, start + i, column, message, line and line + i)


def cells_of(read: Callable[[str], Any], cells: Sequence[str]) -> Iterator[Any]:
    """Read a column kept as text; a `CellError` quotes its cell, and its second argument is the cell's index."""
    for i, cell in enumerate(cells):
        try:
            yield read(cell)
        except CellError as error:
            raise CellError(f"{quoted(cell)} {error}", i) from None


def lists_of(read: Callable[[str], NDArray[np.float64]], cells: Sequence[str], dim: int) -> Block:
    """Read a column of lists kept as text; see `cells_of`."""
    block = np.empty((len(cells), dim))
    for i, vector in enumerate(cells_of(read, cells)):
        if len(vector) != dim:
            raise CellError(f"a list of {len(vector)} numbers, but the first has {dim}", i)
        if np.isnan(vector).any():
            raise CellError("a list with missing numbers (NaN)", i)
        block[i] = vector
    return block
