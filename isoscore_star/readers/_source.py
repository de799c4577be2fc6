"""What every reader returns: the shape of an array in a file, and its points in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError

Block = NDArray[Any]
Index = tuple[int | slice, ...]

# A block has at least as many rows as moments multiply at a time, so that the product outweighs their d² work.
_LEAST_ROWS = 8192
_BLOCK_VALUES = 2**22


class ArraySource(Protocol):
    """An array in a file.

    Attributes
    ----------
    name : str
        The file, and the key of the array if it has one; for messages.
    shape : tuple of int or None
        The last axis is that of the dimensions. None where only reading the file shows it.
    notes : tuple of str
        Messages for the user about choices made in reading the file.
    columns : tuple of str
        In a table the columns that were taken: one for each dimension, or one of lists. Otherwise empty.
    """

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int | None, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> tuple[str, ...]: ...

    def blocks(self) -> Iterator[Block]:
        """Return the points in order, leading axes flattened, in blocks of shape (n, d)."""

    def whole(self) -> NDArray[Any]:
        """Return the array at once, for masks and matrices."""

    def place(self, row: int) -> tuple[str, int]:
        """Return the name of what holds a point that was read, for messages, and the point's number in it."""

    def lengths(self) -> NDArray[np.int64] | None:
        """Return how many points each entry of the first axis has, where that differs from one to the next."""


@dataclass(frozen=True)
class DenseSource:
    """An array of known shape of which any part can be read.

    Attributes
    ----------
    name, shape, notes :
        See `ArraySource`.
    read : callable
        Returns the part at an index (a tuple of integers and slices), which never includes the last axis.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[Index], NDArray[Any]]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Empty, since an array has no names for its dimensions."""
        return ()

    def blocks(self) -> Iterator[Block]:
        """Return the points in blocks; see `ArraySource`."""
        return self.blocks_after(0)

    def blocks_after(self, skip: int) -> Iterator[Block]:
        """Return the blocks after those of the first `skip` rows, which are not read."""
        require_axes(self)
        *leading, dim = self.shape
        for index in _pieces(tuple(leading), block_rows(dim)):
            rows = _rows_of(index, tuple(leading))
            if skip >= rows:
                skip -= rows
                continue
            part = self.read(index)
            yield part.reshape(math.prod(part.shape[:-1]), dim)

    def whole(self) -> NDArray[Any]:
        """Return the array at once."""
        return self.read(())

    def place(self, row: int) -> tuple[str, int]:
        """Return the array's name and the point's number; see `ArraySource`."""
        return self.name, row

    def lengths(self) -> NDArray[np.int64] | None:
        """Return None, since each entry of an axis has as many points; see `ArraySource`."""
        return None

    def layers(self) -> list[DenseSource]:
        """Return one source for each entry of the first axis."""
        return [
            DenseSource(f"{self.name}[{i}]", self.shape[1:], lambda index, i=i: self.read((i, *index)))  # type: ignore[misc]
            for i in range(self.shape[0])
        ]


def require_axes(source: ArraySource) -> None:
    """Require points as rows."""
    if len(source.shape) < 2:
        raise InvalidValueError(
            source.name,
            f"expected points as rows, shape (points, dimensions) or (..., dimensions); "
            f"got shape {source.shape}. A single vector has no isotropy",
        )


def block_rows(dim: int) -> int:
    """Return the number of rows to read at a time."""
    return _LEAST_ROWS * max(1, _BLOCK_VALUES // (_LEAST_ROWS * max(dim, 1)))


def _pieces(leading: tuple[int, ...], rows: int) -> Iterator[Index]:
    """Return indices that cut the leading axes, in order, into about equal parts of at most `rows` points."""
    length, inner = leading[0], math.prod(leading[1:])
    if inner > rows:
        for i in range(length):
            for rest in _pieces(leading[1:], rows):
                yield (i, *rest)
    elif length and inner:
        step = math.ceil(length / math.ceil(length * inner / rows))
        for start in range(0, length, step):
            yield (slice(start, start + step),)


def _rows_of(index: Index, leading: tuple[int, ...]) -> int:
    *_, last = index
    length = leading[len(index) - 1]
    return len(range(*last.indices(length))) * math.prod(leading[len(index) :]) if isinstance(last, slice) else 1


def blocks_after(source: ArraySource, skip: int) -> Iterator[Block]:
    """Return the blocks after the first `skip` rows, which end one; what can be skipped unread is not read."""
    if hasattr(source, "blocks_after"):
        yield from source.blocks_after(skip)
        return
    for block in source.blocks():
        if skip:
            skip -= len(block)
        else:
            yield block


def joined(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """Join small blocks to blocks of at least `rows` rows."""
    waiting: list[Block] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= rows:
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
