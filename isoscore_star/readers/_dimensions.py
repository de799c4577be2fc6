"""Which columns of numbers are dimensions, by their names and kinds, where the user names none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from isoscore_star.readers._columns import NUMBERS, Column, Kind, Taken, ignored, names, without
from isoscore_star.readers._errors import FileContentError, SelectionError
from isoscore_star.readers._names import listed

_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
_LEAST_FAMILY = 3


def dimensions(path: Path, table: Sequence[Column], numbers: list[Column], fractions: list[Column]) -> Taken:
    """Choose among columns of numbers: a numbered family, or those of fractions, or those of integers."""

    def of(*kinds: Kind) -> list[Column]:
        return [column for column in table if column.kind in kinds]

    if marked := of(Kind.MARKED):
        raise FileContentError(
            path,
            f"column {listed(names(marked))} holds {Kind.MARKED.value}. Write plain numbers, or name the "
            "columns to take without it (--columns)",
        )
    if taken := _family(numbers, of(Kind.EMPTY), fractions):
        notes = ignored(without(numbers, taken), f"columns beside {taken[0].name!r} to {taken[-1].name!r}")
        watched: list[Column] = []
    else:
        _require_clear(path, table[0], numbers, fractions)
        candidates = fractions or numbers
        counting = [column for column in candidates if column.counts]
        taken, others = without(candidates, counting), without(numbers, candidates)
        notes = (
            *ignored(others, "integer columns beside floating-point ones (--columns takes what it names)"),
            *ignored(counting, "columns that count the rows"),
        )
        watched = [*(without(numbers, taken) if fractions else []), *of(Kind.EMPTY)]
    if not taken:
        left_out = ignored(of(*NUMBERS), "indices")
        raise FileContentError(
            path, f"has neither columns of numbers nor a column of lists of numbers{': '.join(('', *left_out))}"
        )
    notes = (
        *ignored(of(Kind.OTHER, Kind.BOOLEANS), "columns that hold no numbers"),
        *ignored([column for column in of(*NUMBERS) if column.is_index], "columns of an index"),
        *ignored(without(of(Kind.EMPTY), taken), "empty columns"),
        *notes,
    )
    return Taken(taken, watched, notes)


def _require_clear(path: Path, first: Column, numbers: list[Column], fractions: list[Column]) -> None:
    """Refuse a first column that may be an index, and fewer columns of fractions than of integers."""
    if first.kind is Kind.FRACTIONS and first.is_named and not (first.label or first.declared_index):
        raise SelectionError(
            path,
            f"{first.name!r} holds fractions and has no name, so it may be an index or a dimension: name the "
            "columns to take (--columns)",
        )
    if 0 < 2 * len(fractions) < len(numbers):
        raise SelectionError(
            path,
            f"holds columns of integers, {listed(names(without(numbers, fractions)))}, and fewer of "
            f"fractions, {listed(names(fractions))}; choose by --columns",
        )


def _family(numbers: list[Column], empty: list[Column], fractions: list[Column]) -> list[Column]:
    """Return the columns numbered under one name (x0, x1, ...), empty ones too, if most columns of numbers are."""
    families: dict[str, list[Column]] = {}
    for column in sorted([*numbers, *empty], key=lambda column: column.position):
        if column.is_named and (match := _NUMBERED.fullmatch(column.label)):
            families.setdefault(match[1], []).append(column)
    largest = max(families.values(), key=len, default=[])
    fits = not fractions or len(without(largest, fractions)) < len(largest)
    return largest if fits and len(largest) >= _LEAST_FAMILY and 2 * len(largest) > len(numbers) else []
