"""Columns of a table and their kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from isoscore_star.readers._errors import SelectionError
from isoscore_star.readers._names import listed


class Kind(Enum):
    """Kind of a column's cells."""

    FRACTIONS = "floating-point numbers"
    INTEGERS = "integers"
    BOOLEANS = "booleans"
    LISTS = "lists of floating-point numbers"
    INTEGER_LISTS = "lists of integers"
    NESTED = "lists of lists"
    MARKED = "numbers with signs that are none of a number, such as '1,234', '$5' or '(3)'"
    EMPTY = "no values"
    OTHER = "no numbers"


NUMBERS = (Kind.FRACTIONS, Kind.INTEGERS)
LISTS = (Kind.LISTS, Kind.INTEGER_LISTS, Kind.NESTED)

# pandas writes its index without a name, reads that as "Unnamed: 0", and keeps it in Arrow as "__index_level_0__".
_INDEX = re.compile(r"|Unnamed: \d+(\.\d+|_level_\d+)*|__index_level_\d+__")
LEAST_COUNTED = 10
"""Rows from which on a column that numbers them is an index, not a coincidence."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    position: int  # counted from 0
    label: str  # empty for a column without a name in a table with names, the position in a table without
    kind: Kind
    as_text: bool = False
    length: int = 0  # of its lists, if known
    inner: tuple[int | None, ...] = ()  # axes of a tensor in one cell before its last; None for lists of any length
    declared_index: bool = False  # by the file
    counts: bool = False  # its values number the rows
    is_named: bool = True

    @property
    def name(self) -> str:
        """Name for messages."""
        return self.label or f"column {self.position}"

    @property
    def is_index(self) -> bool:
        """Whether the file declares it an index, or its name is that of one."""
        return self.declared_index or _INDEX.fullmatch(self.label) is not None


@dataclass(frozen=True)
class Taken:
    """Columns that hold points: some of numbers, or one of lists."""

    columns: list[Column]  # in the order of the dimensions
    watched: list[Column]  # left out since they start with integers, or empty cells
    notes: tuple[str, ...]  # which columns were left out, and why

    @property
    def has_lists(self) -> bool:
        """Whether the points are the lists of one column."""
        return self.columns[0].kind in LISTS

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(names(self.columns))


def without(columns: Iterable[Column], others: Iterable[Column]) -> list[Column]:
    """Return the columns that are not among the others."""
    positions = {column.position for column in others}
    return [column for column in columns if column.position not in positions]


def names(columns: Iterable[Column]) -> list[str]:
    """Return the columns' names for messages."""
    return [column.name for column in columns]


def by_name(path: Path, table: Sequence[Column], name: str | None) -> Column:
    """Return the column of a name or, without one, the only column."""
    found = [column for column in table if name is None or name in (column.label, column.name)]
    if len(found) != 1:
        which = "several columns" if name is None else f"no single column {name!r}"
        raise SelectionError(path, f"has {which}; its columns are {listed(names(table))}")
    return found[0]


def ignored(columns: Sequence[Column], why: str) -> tuple[str, ...]:
    """Return a note about columns that are no dimensions, if there are any."""
    return (f"ignored {why}: {listed(names(columns))}",) if columns else ()
