"""Columns of a table, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from isoscore_star.readers._names import listed


class Kind(Enum):
    """What the cells of a column are."""

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
"""Rows from which on a column that counts them is no coincidence."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    position : int
        Counted from 0.
    label : str
        Its name: empty if it has none in a table with names, its position in a table without.
    kind : Kind
        What it holds.
    as_text : bool
        Whether it holds that as text.
    length : int
        Of its lists, if known.
    declared_index : bool
        Whether the file says that it is an index.
    counts : bool
        Whether its values are the numbers of the rows.
    is_named : bool
        Whether the file gives it a name.
    """

    position: int
    label: str
    kind: Kind
    as_text: bool = False
    length: int = 0
    declared_index: bool = False
    counts: bool = False
    is_named: bool = True

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.label or f"column {self.position}"

    @property
    def is_index(self) -> bool:
        """Whether the file or its name says that it is an index."""
        return self.declared_index or _INDEX.fullmatch(self.label) is not None


@dataclass(frozen=True)
class Taken:
    """Columns that hold points: some of numbers, or one of lists.

    Attributes
    ----------
    columns : list of Column
        In the order of the dimensions.
    watched : list of Column
        Left out because they hold integers, or nothing, as far as the start of the table says.
    notes : tuple of str
        What was left out, and why.
    """

    columns: list[Column]
    watched: list[Column]
    notes: tuple[str, ...]

    @property
    def has_lists(self) -> bool:
        """Whether the points are the lists of one column."""
        return self.columns[0].kind in LISTS

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)


def without(columns: Iterable[Column], others: Iterable[Column]) -> list[Column]:
    """Return the columns that are not among the others."""
    positions = {column.position for column in others}
    return [column for column in columns if column.position not in positions]


def names(columns: Iterable[Column]) -> list[str]:
    """Return what messages call them."""
    return [column.name for column in columns]


def ignored(columns: Sequence[Column], why: str) -> tuple[str, ...]:
    """Return a note about columns that are no dimensions, or none without columns."""
    return (f"ignored {why}: {listed(names(columns))}",) if columns else ()
