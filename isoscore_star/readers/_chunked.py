"""Arrays stored in compressed chunks: each is unpacked once, though it may be longer than a block that is read."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from numpy.typing import NDArray

from isoscore_star.readers._source import Index

Read = Callable[[Index], NDArray[Any]]

_MOST_BYTES = 2**30
"""Of rows that are kept; those of larger chunks are unpacked again for each block."""


def keeping_chunks(read: Read, shape: tuple[int, ...], chunk_rows: int, item_bytes: int) -> Read:
    """Return a reader that keeps the chunks it last read, where they are longer than what is read of them.

    Parameters
    ----------
    read : callable
        Reads the part at an index.
    shape : tuple of int
        The array's.
    chunk_rows : int
        Length of its chunks along the first axis.
    item_bytes : int
        Size of a number.
    """
    row_bytes = prod(shape[1:]) * item_bytes
    kept: dict[tuple[int, int], NDArray[Any]] = {}

    def through(index: Index) -> NDArray[Any]:
        if not index or chunk_rows < 2:
            return read(index)
        first, *rest = index
        start, stop, _ = first.indices(shape[0]) if isinstance(first, slice) else (first, first + 1, 1)
        begin, end = start // chunk_rows * chunk_rows, min(-(-stop // chunk_rows) * chunk_rows, shape[0])
        if stop - start >= chunk_rows or (end - begin) * row_bytes > _MOST_BYTES:
            return read(index)
        if (begin, end) not in kept:
            kept.clear()
            kept[begin, end] = read((slice(begin, end),))
        own = slice(start - begin, stop - begin) if isinstance(first, slice) else start - begin
        return kept[begin, end][(own, *rest)]

    return through
