"""The layout of a text table, by its first rows: separator, quotes, decimal sign, header, kinds of columns."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

from isoscore_star.readers._cells import counts, is_missing, is_word, kind_of
from isoscore_star.readers._columns import LEAST_COUNTED, NUMBERS, Column, Kind
from isoscore_star.readers._errors import FileContentError
from isoscore_star.readers._layout import SAMPLE_CELLS, SAMPLE_ROWS, Layout, lines_of, long_fields
from isoscore_star.readers._names import quoted
from isoscore_star.readers._text_files import format_of_text, opened

_SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;", ".txt": " \t,;", ".vec": " \t,;", ".emb": " \t,;"}
_PROBED_ROWS, _PROBED_CELLS = 10, 200
_READ_KINDS = (*NUMBERS, Kind.LISTS, Kind.INTEGER_LISTS)


def sniff(path: Path) -> tuple[Layout, list[Column], tuple[str, ...]]:
    """Return the layout of a text table, its columns, and notes about both."""
    layout = _likeliest(path)
    sample = layout.sample()
    comments = _comments(sample)
    sample = sample[comments:]
    if not sample:
        raise FileContentError(path, "is empty")
    letters = sum(len(cell) + 1 for row in sample for cell in row)
    layout = replace(layout, skipped=comments, row_letters=max(1, letters // len(sample)))
    notes: tuple[str, ...] = ()
    if layout.comma or layout.separator != _SEPARATORS[format_of_text(path)][0]:
        decimals = ", and decimals by a comma" if layout.comma else ""
        notes = (f"columns are separated by {layout.separator!r}{decimals}",)
    first, rest = sample[0], sample[1:]
    if rest and len(rest[0]) == len(first) + 1 and all(is_word(cell, layout.number) for cell in first):
        # R does not name the column of the rows' names; other programs end rows, but not the header, in a separator.
        first = [*first, ""] if all(not row[-1].strip() for row in rest) else ["", *first]
    width = len(first)
    for i, row in enumerate(rest, comments + 2):
        if len(row) != width:
            raise FileContentError(
                path,
                f"row {i} of the file (counted from 1, with its header) has {len(row):,} columns, the first {width:,}",
            )
    columns = [list(cells) for cells in zip(*rest, strict=True)] or [[] for _ in first]
    kinds = [kind_of(cells, layout.number) for cells in columns]
    header, why = _is_header(first, columns, [kind for kind, _ in kinds], layout)
    if header:
        layout = replace(layout, skipped=comments + 1)
        labels = [_label(cell, layout.quotes) for cell in first]
        notes += (why,) if why else ()
    else:
        columns = [[cell, *cells] for cell, cells in zip(first, columns, strict=True)]
        kinds = [kind_of(cells, layout.number) for cells in columns]
        labels = [str(i) for i in range(width)]
    table = [
        Column(i, label, kind, True, length, counts=len(cells) >= LEAST_COUNTED and counts(cells), is_named=header)
        for i, (label, (kind, length), cells) in enumerate(zip(labels, kinds, columns, strict=True))
    ]
    return layout, table, notes


def _likeliest(path: Path) -> Layout:
    """Return the layout in which most cells are numbers; of equal ones, the usual one for the suffix."""
    separators = _SEPARATORS[format_of_text(path)]
    usual = [True, False] if separators[0] == "," else [False, True]
    candidates = [Layout(path, sign, quotes) for quotes in usual for sign in separators]
    candidates += [replace(layout, comma=True) for layout in candidates if layout.separator != ","]
    head = _head(path)
    present = [layout for layout in candidates if any(layout.separator in line for line in head)]
    return max(present or candidates, key=lambda layout: _fraction_of_numbers(layout, head))


def _fraction_of_numbers(layout: Layout, head: list[str]) -> float:
    rows: list[list[str]] = []
    try:
        with long_fields():
            rows.extend(filter(None, layout.reader(iter(head))))
    except csv.Error:
        pass  # the head may end within quotes
    if len({len(row) for row in rows[1:]}) > 1:
        return 0.0
    probed = rows[1 : _PROBED_ROWS + 1] or rows
    cells = [cell for row in probed for cell in row[:_PROBED_CELLS]]
    return sum(kind_of([cell], layout.number)[0] in _READ_KINDS for cell in cells) / max(len(cells), 1)


def _head(path: Path) -> list[str]:
    with opened(path, encoding="utf-8-sig", newline="") as file:
        lines, letters = [], 0
        for line in islice(lines_of(file, path), SAMPLE_ROWS):
            lines.append(line)
            letters += len(line)
            if letters > SAMPLE_CELLS and len(lines) > 2:
                break
        return lines


def _comments(sample: list[list[str]]) -> int:
    """Count the comments at the start: rows that differ in length from the next row."""
    count = 0
    while len(sample) > count + 1 and sample[count][0].startswith("#") and len(sample[count]) != len(sample[count + 1]):
        count += 1
    return count


def _is_header(
    first: list[str], columns: list[list[str]], kinds: list[Kind], layout: Layout
) -> tuple[bool, str | None]:
    """Return whether the first row names the columns, and a note where that is a guess."""
    read = [i for i, kind in enumerate(kinds) if kind in _READ_KINDS]
    if not read:  # only one row, or columns of words
        return not any(kind_of([cell], layout.number)[0] in _READ_KINDS for cell in first), None
    if not first[0].strip() and counts(columns[0]):
        return True, None  # an index, which pandas writes without a name
    words = {i for i in read if is_word(first[i], layout.number)}
    numbers = [first[i] for i in read if i not in words and not is_missing(first[i])]
    whole = all(re.fullmatch(r"\d+", cell) for cell in numbers)
    if 2 * len(words) > len(read) or (2 * len(words) == len(read) and whole):
        return True, None
    if len(numbers) < 2 or not whole:
        return False, None
    positions = counts(numbers)
    distinct = len(set(numbers)) == len(numbers)
    other = distinct and len(columns[0]) > 1 and not any(re.fullmatch(r"[+-]?\d+", c) for i in read for c in columns[i])
    shown = f"{quoted(numbers[0])} to {quoted(numbers[-1])}"
    return positions or other, f"took the first row, {shown}, as names of the columns"


def _label(cell: str, quotes: bool) -> str:
    label = cell.strip().removeprefix("#").strip()
    return label if quotes else label.strip('"')
