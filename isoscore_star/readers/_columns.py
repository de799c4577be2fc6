"""Which columns of a table are dimensions: those that were named, or what names and kinds of columns tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from isoscore_star.readers._names import listed, matching
from isoscore_star.readers._source import Candidate, FileContentError, SelectionError, choose


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


_NUMBERS = (Kind.FRACTIONS, Kind.INTEGERS)
_LISTS = (Kind.LISTS, Kind.INTEGER_LISTS, Kind.NESTED)

# pandas writes its index without a name, reads that as "Unnamed: 0", and keeps it in Arrow as "__index_level_0__".
_INDEX = re.compile(r"|Unnamed: \d+(\.\d+|_level_\d+)*|__index_level_\d+__")
_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
_LEAST_FAMILY = 3
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
    is_index : bool
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
    is_index: bool = False
    counts: bool = False
    is_named: bool = True

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.label or f"column {self.position}"


@dataclass(frozen=True)
class Taken:
    """The columns that hold points: some of numbers, or one of lists.

    Attributes
    ----------
    columns : list of Column
        In the order of the dimensions.
    watched : list of Column
        Left out because they hold integers, or nothing, as far as the start of the table tells.
    notes : tuple of str
        What was left out, and why.
    """

    columns: list[Column]
    watched: list[Column]
    notes: tuple[str, ...]

    @property
    def has_lists(self) -> bool:
        """Whether the points are the lists of one column."""
        return self.columns[0].kind in _LISTS

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)


def take(path: Path, table: Sequence[Column], key: str | None, patterns: Sequence[str], rows: int = 0) -> Taken:
    """Choose columns.

    Parameters
    ----------
    path : Path
        The file, for messages.
    table : sequence of Column
        All columns.
    key : str or None
        Name or pattern of a column of lists; or a pattern of columns of numbers.
    patterns : sequence of str
        Names or patterns of columns of numbers, in the order of the dimensions; or of one column of lists.
    rows : int, optional
        Number of points if known, for messages.

    Returns
    -------
    Taken
        At least one column.

    Raises
    ------
    SelectionError
        If what was asked for is not there, or the choice is open.
    FileContentError
        If no column holds numbers.
    """
    if patterns and key is not None:
        raise SelectionError(path, "in a table a key and columns are two ways to say the same; give one of them")
    if patterns:
        return _named(path, table, patterns)
    lists = [column for column in table if column.kind in _LISTS]
    if key is not None:
        return _by_key(path, table, lists, key, rows)
    numbers = [column for column in table if column.kind in _NUMBERS and not _is_index(column)]
    fractions = [column for column in numbers if column.kind is Kind.FRACTIONS]
    likely = [column for column in lists if column.kind is not Kind.INTEGER_LISTS] or lists
    # Lists of integers are likely tokens if there are other points, and a lone number is no point beside a list.
    if likely and likely[0].kind is Kind.INTEGER_LISTS and len(fractions) > 1:
        raise SelectionError(
            path,
            f"holds columns of numbers, {listed(_names(fractions))}, and columns of lists of integers, "
            f"{listed(_names(likely))}; choose by --columns or --key",
        )
    if likely:
        return _list(path, likely, None, rows, _ignored(numbers, "columns of numbers beside a column of lists"))
    return _numbers(path, table, numbers, fractions)


def _named(path: Path, table: Sequence[Column], patterns: Sequence[str]) -> Taken:
    chosen: dict[int, Column] = {}
    for pattern in patterns:
        found = _matching(table, pattern)
        if not found:
            raise SelectionError(path, f"has no column {pattern!r}; its columns are {listed(_names(table))}")
        # A pattern means the numbers that it matches; a name means its column.
        usable_kinds = (*_NUMBERS, *_LISTS, *([Kind.BOOLEANS] if found[0].label == pattern else []))
        usable = [column for column in found if column.kind in usable_kinds]
        if not usable:
            raise SelectionError(path, f"column {listed(_names(found))} holds {found[0].kind.value}")
        chosen |= {column.position: column for column in usable}
    columns = list(chosen.values())
    if any(column.kind in _LISTS for column in columns) and len(columns) > 1:
        raise SelectionError(
            path, f"--columns takes several columns of numbers or one of lists; got {listed(_names(columns))}"
        )
    return Taken(columns, [], ())


def _by_key(path: Path, table: Sequence[Column], lists: list[Column], key: str, rows: int) -> Taken:
    found = _matching(table, key)
    if lists and (not found or any(column in lists for column in found)):
        return _list(path, lists, key, rows, ())
    if not found:
        raise SelectionError(path, f"has no column {key!r}; its columns are {listed(_names(table))}")
    if found[0].label == key:
        raise SelectionError(
            path,
            f"column {key!r} ({found[0].kind.value}) holds no lists of numbers, which points are; "
            "--columns takes several columns of numbers as the dimensions of points",
        )
    return _named(path, table, (key,))


def _list(path: Path, lists: list[Column], key: str | None, rows: int, notes: tuple[str, ...]) -> Taken:
    candidates = {
        column.label: Candidate((rows, column.length), column.kind is not Kind.INTEGER_LISTS) for column in lists
    }
    label = choose(path, candidates, key)
    column = next(column for column in lists if column.label == label)
    if column.kind is Kind.NESTED:
        raise FileContentError(path, f"column {label!r} holds lists of lists; save one list for each point")
    if column.as_text:
        notes = (f"read column {label!r} as lists of {column.length} numbers, which it keeps as text", *notes)
    return Taken([column], [], notes)


def _numbers(path: Path, table: Sequence[Column], numbers: list[Column], fractions: list[Column]) -> Taken:
    empty = [column for column in table if column.kind is Kind.EMPTY]
    marked = [column for column in table if column.kind is Kind.MARKED]
    if marked:
        raise FileContentError(
            path,
            f"column {listed(_names(marked))} holds {Kind.MARKED.value}. Write plain numbers, or name the "
            "columns to take without it (--columns)",
        )
    family = _family(numbers, empty, {column.position for column in fractions})
    first = table[0]
    if not family and first.kind is Kind.FRACTIONS and first.is_named and not (first.label or first.is_index):
        raise SelectionError(
            path,
            f"{first.name!r} holds fractions and has no name, so it may be an index or a dimension: name the "
            "columns to take (--columns)",
        )
    if family:
        why = f"columns beside {family[0].name!r} to {family[-1].name!r}"
        taken, notes = family, _ignored(_without(numbers, family), why)
    elif 2 * len(fractions) < len(numbers) and fractions:
        raise SelectionError(
            path,
            f"holds columns of integers, {listed(_names(_without(numbers, fractions)))}, and fewer of "
            f"fractions, {listed(_names(fractions))}; choose by --columns",
        )
    elif fractions:
        counting = [column for column in fractions if column.counts]
        taken, integers = _without(fractions, counting), _without(numbers, fractions)
        notes = (
            *_ignored(integers, "integer columns beside floating-point ones (--columns takes what it names)"),
            *_ignored(counting, "columns that count the rows"),
        )
    else:
        counting = [column for column in numbers if column.counts]
        taken, notes = _without(numbers, counting), _ignored(counting, "columns that count the rows")
    if not taken:
        left_out = _ignored([column for column in table if column.kind in _NUMBERS], "indices")
        raise FileContentError(
            path, f"has neither columns of numbers nor a column of lists of numbers{': '.join(('', *left_out))}"
        )
    indices = [column for column in table if column.kind in _NUMBERS and _is_index(column)]
    empty = _without(empty, taken)
    words = [column for column in table if column.kind in (Kind.OTHER, Kind.BOOLEANS)]
    notes = (
        *_ignored(words, "columns that hold no numbers"),
        *_ignored(indices, "columns of an index"),
        *_ignored(empty, "empty columns"),
        *notes,
    )
    watched = [] if family else [*(_without(numbers, taken) if fractions else []), *empty]
    return Taken(taken, watched, notes)


def _family(numbers: list[Column], empty: list[Column], fractions: set[int]) -> list[Column]:
    """Find the columns that are numbered under one name (x0, x1, ...), if they are most of the columns of numbers.

    An empty one among them is a dimension that is missing.
    """
    families: dict[str, list[Column]] = {}
    for column in sorted([*numbers, *empty], key=lambda column: column.position):
        if column.is_named and (match := _NUMBERED.fullmatch(column.label)):
            families.setdefault(match[1], []).append(column)
    largest = max(families.values(), key=len, default=[])
    fits = not fractions or any(column.position in fractions for column in largest)
    return largest if fits and len(largest) >= _LEAST_FAMILY and 2 * len(largest) > len(numbers) else []


def _matching(table: Sequence[Column], pattern: str) -> list[Column]:
    labels = set(matching([column.label for column in table], pattern))
    return [column for column in table if column.label in labels or column.name == pattern]


def _is_index(column: Column) -> bool:
    return column.is_index or _INDEX.fullmatch(column.label) is not None


def _without(columns: Iterable[Column], others: Iterable[Column]) -> list[Column]:
    positions = {column.position for column in others}
    return [column for column in columns if column.position not in positions]


def _names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def _ignored(columns: Sequence[Column], why: str) -> tuple[str, ...]:
    return (f"ignored {why}: {listed(_names(columns))}",) if columns else ()
