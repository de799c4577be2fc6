"""Tables whose rows are points: a column of lists, or columns of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
        Reads the points from the first one on, in arrays of at most as many rows as its argument says.
    """

    name: str
    shape: tuple[int | None, int]
    read: Callable[[int], Iterable[Block]]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def blocks(self) -> Iterator[Block]:
        """Return the points in blocks; see `isoscore_star.readers.ArraySource`."""
        rows = block_rows(self.shape[1])
        return joined((block for block in self.read(rows) if len(block)), rows)

    def whole(self) -> NDArray[Any]:
        """Return the table at once."""
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.empty((0, self.shape[1]))


def refuse(path: Path, row: int, column: Column, what: str, line: int | None = None) -> NoReturn:
    """Say which value of a table cannot be used."""
    place = f"row {row} (counted from 0{'' if line is None else f', line {line}'}), column {quoted(column.name)}"
    raise FileContentError(
        path, f"{place}: {what}. Mend it, remove its row, or name the columns to take without it (--columns)"
    )


def read_cell(read: Callable[[str], Any], cell: str) -> Any:
    """Read a cell; a `CellError` quotes it."""
    try:
        return read(cell)
    except CellError as error:
        raise CellError(f"{quoted(cell)} {error}") from None


def lists_of(read: Callable[[str], NDArray[np.float64]], cells: Sequence[str], dim: int) -> Block:
    """Read a column of lists kept as text; a `CellError` has the index of its cell as second argument."""
    block = np.empty((len(cells), dim))
    for i, cell in enumerate(cells):
        try:
            vector = read_cell(read, cell)
            if len(vector) != dim:
                raise CellError(f"a list of {len(vector)} numbers, but the first has {dim}")
            if np.isnan(vector).any():
                raise CellError("a list with missing numbers (NaN)")
        except CellError as error:
            raise CellError(str(error), i) from None
        block[i] = vector
    return block
