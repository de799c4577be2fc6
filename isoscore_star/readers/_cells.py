"""Numbers, and lists of numbers, that a table keeps as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from isoscore_star.readers._columns import Kind

_MISSING = frozenset(
    ("", "-", "--", ".", "?", "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "(null)")
) | {"none", "nil", "nat", "missing", "undefined"}
_BOOLEANS = {"true": 1.0, "false": 0.0}
# 1,234,567  $5.10  (3.2)  1.5D0: numbers, but not as Python, or most programs, would read them.
_MARKED = re.compile(r"\s*\(?[+-]?[$€£¥]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?(?:[dD][+-]?\d+)?\s?[$€£¥%]?\)?\s*")
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
# [1, 2], (1, 2), {1, 2}, array([1., 2.], dtype=float32), tensor([1., 2.])
_LIST = re.compile(
    r"\s*(?:(?:np|numpy|torch)\.)?(?:array\(|tensor\()?\s*[\[({](.*?)[\])}]\s*(?:,\s*\w+\s*=[^\[\]]*)?\)?\s*", re.DOTALL
)
_SCALAR = re.compile(r"(?:np|numpy)\.\w+\(([^()]*)\)")  # np.float64(0.1), as NumPy 2 prints what stands in a list
_LEAST_BARE = 3  # numbers in one cell without brackets, from which on it is read as a list
_PROBED = 50  # cells by which a column is recognised as one of lists


class CellError(Exception):
    """A cell holds something else than its column; the message says what."""


def number(cell: str) -> float:
    """Read a number; NaN counts as missing."""
    try:
        value = float(cell)
    except ValueError:
        raise CellError("is missing" if is_missing(cell) else "is no number") from None
    if value != value:
        raise CellError("is missing")
    return value


def decimal_comma(cell: str) -> float:
    """Read a number whose decimals stand behind a comma; see `number`."""
    return number("no number" if "." in cell else cell.replace(",", "."))


def boolean(cell: str) -> float:
    """Read true or false as 1 or 0; see `number`."""
    try:
        return _BOOLEANS[cell.strip().lower()]
    except KeyError:
        raise CellError("is missing" if is_missing(cell) else "is neither true nor false") from None


def is_missing(cell: str) -> bool:
    """Return whether a cell stands for an unknown value."""
    return cell.strip().lower() in _MISSING


def numbers(cell: str) -> NDArray[np.float64]:
    """Read a list of numbers; see `number`."""
    inner = _inner(cell)
    if inner is None:
        raise CellError("is missing" if is_missing(cell) else "is no list of numbers")
    if "[" in inner or "(" in inner:
        raise CellError("is a list of lists; save one list for each point")
    tokens = inner.replace(",", " ").split()
    if "..." in inner or "…" in inner:
        raise CellError(
            f"was cut by '...' when it was saved, {len(tokens) - 1} numbers are left: save the whole list, say with "
            "str(list(vector)) or in a .parquet file"
        )
    try:
        return np.array([float(token) for token in tokens])
    except ValueError:
        raise CellError("is no list of numbers") from None


def kind_of(cells: Sequence[str], read: Callable[[str], float] = number) -> tuple[Kind, int]:
    """Return the kind of a column, from some of its cells, and the length of its first list.

    A column whose cells are numbers (or lists) by at least half, missing ones not counted, is one of numbers (or lists)
    with mistakes.
    """
    read_cells = [cell for cell in cells if _reads(read, cell)]
    present = cells if len(read_cells) == len(cells) else [cell for cell in cells if not is_missing(cell)]
    if not present:
        return Kind.EMPTY, 0
    if 2 * len(read_cells) >= len(present):
        return (Kind.INTEGERS if all(map(_INTEGER.fullmatch, read_cells)) else Kind.FRACTIONS), 0
    if all(_reads(boolean, cell) for cell in present):
        return Kind.BOOLEANS, 0
    if 2 * sum(_MARKED.fullmatch(cell) is not None or _reads(read, cell) for cell in present) > len(present):
        return Kind.MARKED, 0
    probed = present[:_PROBED]
    lists = [inner for inner in map(_inner, probed) if inner is not None]
    if 2 * len(lists) >= len(probed):
        return _kind_of_lists(lists)
    return Kind.OTHER, 0


def is_word(cell: str, read: Callable[[str], float] = number) -> bool:
    """Return whether a cell is a value, but neither a number nor a list of numbers."""
    return not _reads(read, cell) and not is_missing(cell) and _inner(cell) is None


def counts(cells: Sequence[str]) -> bool:
    """Return whether cells number the rows: 0, 1, 2, ... or 1, 2, 3, ..."""
    try:
        first = int(float(cells[0]))
        return first in (0, 1) and all(float(cell) == i for i, cell in enumerate(cells, first))
    except (ValueError, IndexError, OverflowError):
        return False


def _kind_of_lists(lists: list[str]) -> tuple[Kind, int]:
    if 2 * sum("[" in inner or "(" in inner for inner in lists) > len(lists):
        return Kind.NESTED, 0
    tokens = [inner.replace(",", " ").split() for inner in lists]
    whole = all(_INTEGER.fullmatch(token) for row in tokens for token in row)
    return Kind.INTEGER_LISTS if whole else Kind.LISTS, len(tokens[0])


def _inner(cell: str) -> str | None:
    """Return the text between the brackets of a list of numbers, without brackets of single numbers."""
    if not any(map(str.isdigit, cell)):
        return None
    match = _LIST.fullmatch(_SCALAR.sub(r"\1", cell) if "np." in cell or "numpy." in cell else cell)
    inner = cell if match is None else match.group(1)
    tokens = re.sub(r"[\[\](){},]|\.\.\.|…", " ", inner).split() if match else inner.replace(",", " ").split()
    if not tokens or not all(_reads(float, token) for token in tokens):
        return None
    bare = match is None and (len(tokens) < _LEAST_BARE or all(map(_INTEGER.fullmatch, tokens)))
    return None if bare else inner


def _reads(read: Callable[[str], object], cell: str) -> bool:
    try:
        read(cell)
    except (CellError, ValueError):
        return False
    return True
