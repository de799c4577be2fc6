"""Word vectors as text (word2vec, GloVe, fastText): a line is a word and its numbers, between blanks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from isoscore_star.readers._archive import no_keys
from isoscore_star.readers._csv import csv_column as csv_column  # of a table that is no list of words
from isoscore_star.readers._csv import open_csv
from isoscore_star.readers._errors import FileContentError, SelectionError, reading
from isoscore_star.readers._layout import lines_of
from isoscore_star.readers._names import quoted
from isoscore_star.readers._source import Block
from isoscore_star.readers._table import TableSource
from isoscore_star.readers._text_files import opened

_SAMPLE_LINES = 100
_CHUNK_NUMBERS = 2**18


@dataclass(frozen=True)
class _Words:
    """Layout of a file: lines before the first point, length of vectors, whether words stand before them."""

    path: Path
    skipped: int
    dim: int
    has_words: bool
    promised: int | None = None

    def blocks(self, rows: int) -> Iterator[Block]:
        """Read all points."""
        count, chunk, chunk_rows = 0, [], max(1, min(rows, _CHUNK_NUMBERS // self.dim))
        with reading(self.path), _opened(self.path) as file:
            for number, line in enumerate(lines_of(file, self.path), 1):
                if number <= self.skipped or not line.strip():
                    continue
                chunk.append(self._vector(line, number))
                count += 1
                if len(chunk) == chunk_rows:
                    yield np.array(chunk)
                    chunk = []
            if self.promised is not None and count != self.promised:
                raise FileContentError(
                    self.path, f"the first line promises {self.promised:,} points, but {count:,} follow"
                )
            yield np.array(chunk).reshape(-1, self.dim)

    def _vector(self, line: str, number: int) -> list[float]:
        parts = line.rsplit(None, self.dim)
        # All that precedes the numbers is the word, which may contain blanks, or be one.
        complete = len(parts) == self.dim + self.has_words or (len(parts) == self.dim and line[0].isspace())
        try:
            if not complete:
                raise ValueError
            vector = list(map(float, parts[-self.dim :]))
            if any(value != value for value in vector):
                raise ValueError
        except ValueError:
            word = "a word and " if self.has_words else ""
            raise FileContentError(
                self.path, f"line {number}: expected {word}{self.dim} numbers; got {quoted(line.strip())}"
            ) from None
        return vector


def open_words(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open a .vec, .emb or .txt file: word vectors, or a table whose columns stand between blanks, tabs or commas."""
    with reading(path):
        with _opened(path) as file:
            head = [line for line in islice(lines_of(file, path), _SAMPLE_LINES) if line.strip()]
        if not head:
            raise FileContentError(path, "is empty")
        words = _layout(path, head)
    if words is None:
        return open_csv(path, key, columns)
    no_keys(path, key)
    if columns:
        raise SelectionError(path, f"holds word vectors, whose numbers have no names; got columns {columns[0]!r}")
    notes = ("took the first line as the number of points and of dimensions",) if words.promised is not None else ()
    return TableSource(str(path), (words.promised, words.dim), words.blocks, notes)


def _layout(path: Path, head: list[str]) -> _Words | None:
    """Return the layout by the first lines; None if they are a table without words."""
    first, rest = head[0].split(), head[1:]
    if len(first) == 2 and all(map(str.isdecimal, first)) and rest:
        dim, numbers, columns = int(first[1]), _numbers_at_end(rest[0]), len(rest[0].split())
        # Otherwise the two are the first row of a matrix with two columns.
        if 0 < dim <= numbers and columns != (2 if numbers == 2 else 0):
            _require_dimensions(path, dim, rest)
            return _Words(path, 1, dim, columns > dim, int(first[0]))
    ((dim, _),) = Counter(map(_numbers_at_end, head)).most_common(1)
    with_words = sum(len(line.split()) > _numbers_at_end(line) for line in head)
    if dim < 2 or 2 * with_words <= len(head) or not _numbers_at_end(head[0]):
        return None
    return _Words(path, 0, dim, True)


def _require_dimensions(path: Path, dim: int, lines: list[str]) -> None:
    """Raise for a first line that promises fewer numbers than follow each word; a word may be a number itself."""
    counts = {_numbers_at_end(line) for line in lines}
    if len(counts) == 1 and (count := counts.pop()) > dim and any(len(line.split()) > count for line in lines):
        raise FileContentError(path, f"the first line promises {dim} dimensions, but {count} numbers follow each word")


def _numbers_at_end(line: str) -> int:
    count = 0
    for token in reversed(line.split()):
        try:
            float(token)
        except ValueError:
            break
        count += 1
    return count


def _opened(path: Path) -> TextIO:
    # Words may contain any letter, Unicode's line separators too, and are not used.
    return opened(path, encoding="utf-8", errors="replace", newline="\n")
