"""Which columns of a table are dimensions: those that were named, or those that names and kinds of columns suggest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isoscore_star.readers._archive import Candidate, choose
from isoscore_star.readers._columns import LISTS, NUMBERS, Column, Kind, Taken, ignored, names
from isoscore_star.readers._dimensions import dimensions
from isoscore_star.readers._errors import FileContentError, SelectionError
from isoscore_star.readers._names import listed, matching


def take(path: Path, table: Sequence[Column], key: str | None, patterns: Sequence[str], rows: int = 0) -> Taken:
    """Choose columns: by patterns, by the key of a column of lists, or else by their names and kinds."""
    if patterns and key is not None:
        raise SelectionError(path, "in a table a key and columns are two ways to say the same; give one of them")
    if patterns:
        return _named(path, table, patterns)
    lists = [column for column in table if column.kind in LISTS]
    if key is not None:
        return _by_key(path, table, lists, key, rows)
    numbers = [column for column in table if column.kind in NUMBERS and not column.is_index]
    fractions = [column for column in numbers if column.kind is Kind.FRACTIONS]
    likely = [column for column in lists if column.kind is not Kind.INTEGER_LISTS] or lists
    # Lists of integers are likely tokens if there are other points, and a lone number is no point beside a list.
    if likely and likely[0].kind is Kind.INTEGER_LISTS and len(fractions) > 1:
        raise SelectionError(
            path,
            f"holds columns of numbers, {listed(names(fractions))}, and columns of lists of integers, "
            f"{listed(names(likely))}; choose by --columns or --key",
        )
    if likely:
        return _list(path, likely, None, rows, ignored(numbers, "columns of numbers beside a column of lists"))
    return dimensions(path, table, numbers, fractions)


def _named(path: Path, table: Sequence[Column], patterns: Sequence[str]) -> Taken:
    chosen: dict[int, Column] = {}
    for pattern in patterns:
        matches = _matching(table, pattern)
        if not matches:
            raise SelectionError(path, f"has no column {pattern!r}; its columns are {listed(names(table))}")
        # Booleans are taken by their exact name only.
        usable_kinds = (*NUMBERS, *LISTS, *([Kind.BOOLEANS] if matches[0].label == pattern else []))
        usable = [column for column in matches if column.kind in usable_kinds]
        if not usable:
            raise SelectionError(path, f"column {listed(names(matches))} holds {matches[0].kind.value}")
        chosen |= {column.position: column for column in usable}
    columns = list(chosen.values())
    if any(column.kind in LISTS for column in columns) and len(columns) > 1:
        raise SelectionError(
            path, f"--columns takes several columns of numbers or one of lists; got {listed(names(columns))}"
        )
    for column in columns:
        _require_points(path, column)
    return Taken(columns, [], ())


def _by_key(path: Path, table: Sequence[Column], lists: list[Column], key: str, rows: int) -> Taken:
    matches = _matching(table, key)
    if lists and (not matches or any(column in lists for column in matches)):
        return _list(path, lists, key, rows, ())
    if matches and matches[0].label == key:
        raise SelectionError(
            path,
            f"column {key!r} ({matches[0].kind.value}) holds no lists of numbers, which points are; "
            "--columns takes several columns of numbers as the dimensions of points",
        )
    return _named(path, table, (key,))


def _list(path: Path, lists: list[Column], key: str | None, rows: int, notes: tuple[str, ...]) -> Taken:
    shapes = {c.label: (rows, *(size or 0 for size in c.inner), c.length) for c in lists}
    label = choose(path, {c.label: Candidate(shapes[c.label], c.kind is not Kind.INTEGER_LISTS) for c in lists}, key)
    column = next(column for column in lists if column.label == label)
    _require_points(path, column)
    if column.as_text:
        notes = (f"read column {label!r} as lists of {column.length} numbers, which it keeps as text", *notes)
    return Taken([column], [], notes)


def _require_points(path: Path, column: Column) -> None:
    if column.kind is Kind.NESTED and not column.inner:
        raise FileContentError(
            path,
            f"column {column.name!r} holds lists of lists of lists, or as text; save one list for each point, or in an "
            "Arrow or Parquet file one list of points for each sequence",
        )


def _matching(table: Sequence[Column], pattern: str) -> list[Column]:
    labels = set(matching([column.label for column in table], pattern))
    return [column for column in table if column.label in labels or column.name == pattern]
