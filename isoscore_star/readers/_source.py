"""What every reader gives: the shape of an array in a file, and its points in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidValueError, IsoScoreError
from isoscore_star.readers._names import listed, matching

Block = NDArray[Any]
Index = tuple[int | slice, ...]

# A block has at least as many rows as moments multiply at a time, so that their d² work stays small beside
# the product; blocks of narrow points have more, so that they are not tiny.
_LEAST_ROWS = 8192
_BLOCK_VALUES = 2**22

_SHOWN_NAMES = 10
_SHOWN_LETTERS = 80


class SelectionError(InvalidValueError):
    """What was asked for is not there, or not clear: the file, its format, or the key of an array in it."""


class SeveralArraysError(SelectionError):
    """A pattern matches several arrays of a file.

    Attributes
    ----------
    names : tuple of str
        What they are called.

    Parameters
    ----------
    path : Path
        The file.
    pattern : str
        What was asked for.
    names : iterable of str
        What matches it.
    """

    def __init__(self, path: Path, pattern: str, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(str(path), f"{pattern!r} matches several arrays, choose one: {listed(self.names)}")


class FileContentError(InvalidValueError):
    """A file is damaged, or does not hold what its suffix says."""


class ArraySource(Protocol):
    """An array in a file.

    Attributes
    ----------
    name : str
        The file, and the key of the array if it has one; for messages.
    shape : tuple of int or None
        The last axis is that of the dimensions. None where only reading to the end would tell.
    notes : tuple of str
        What a user should know about how the file was understood.
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


@dataclass(frozen=True)
class DenseSource:
    """An array of known shape of which any part can be read.

    Attributes
    ----------
    name, shape, notes :
        See `ArraySource`.
    read : callable
        Gives the part at an index (a tuple of integers and slices), which never reaches the last axis.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[Index], NDArray[Any]]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """None, since an array has no names for its dimensions."""
        return ()

    def blocks(self) -> Iterator[Block]:
        """Return the points in blocks; see `ArraySource`."""
        *leading, dim = self.shape
        for index in _pieces(tuple(leading), block_rows(dim)):
            part = self.read(index)
            yield part.reshape(math.prod(part.shape[:-1]), dim)

    def whole(self) -> NDArray[Any]:
        """Return the array at once."""
        return self.read(())

    def layers(self) -> list[DenseSource]:
        """Split the first axis into sources of their own."""
        return [
            DenseSource(f"{self.name}[{i}]", self.shape[1:], lambda index, i=i: self.read((i, *index)))  # type: ignore[misc]
            for i in range(self.shape[0])
        ]


class Candidate(NamedTuple):
    """An array that an archive or a table offers."""

    shape: tuple[int, ...]
    is_float: bool


def block_rows(dim: int) -> int:
    """Rows to read at a time."""
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


def choose(path: Path, candidates: Mapping[str, Candidate], key: str | None) -> str:
    """Pick an array by its key, or the only one that can hold points."""
    if not candidates:
        raise FileContentError(path, "holds no arrays")
    if key is not None:
        names = matching(candidates, key)
        if len(names) == 1:
            return names[0]
        if names:
            raise SeveralArraysError(path, key, names)
        raise SelectionError(path, f"has no array {key!r}; it holds {offered(candidates)}")
    clouds = [name for name, (shape, is_float) in candidates.items() if is_float and len(shape) >= 2]
    for names in (list(candidates), clouds):
        if len(names) == 1:
            return names[0]
    raise SelectionError(path, f"holds several arrays, choose one by its key: {offered(candidates)}")


def dense(
    path: Path,
    candidates: Mapping[str, Candidate],
    key: str | None,
    check: Callable[[tuple[str, ...]], None],
    read: Callable[[tuple[str, ...], Index], list[NDArray[Any]]],
) -> DenseSource:
    """Open an array of an archive, or stack its vectors where each point was saved under a name of its own.

    Parameters
    ----------
    path : Path
        The archive.
    candidates : mapping of str to Candidate
        Its arrays. Names may be paths, such as ``representations/33``.
    key : str or None
        The name of an array, or the start of the paths of vectors.
    check : callable
        Raises if one of the arrays of some names cannot be read.
    read : callable
        Gives the parts at an index of the arrays of some names.
    """
    names = () if key in candidates else _vectors(candidates, key)
    if not names:
        name = choose(path, candidates, key)
        check((name,))
        others = {} if key is not None else {other: array for other, array in candidates.items() if other != name}
        notes = (f"took {_in_line(name)!r} alone; the file also holds {offered(others)}",) if others else ()
        return DenseSource(_name(path, name), candidates[name].shape, lambda index: read((name,), index)[0], notes)
    check(names)
    dim = candidates[names[0]].shape[0]

    def stacked(index: Index) -> NDArray[Any]:
        rows = index[0] if index else slice(None)
        return np.stack(read(names[rows], ())) if isinstance(rows, slice) else read((names[rows],), ())[0]

    note = f"stacked {len(names):,} vectors of {dim:,} numbers, each saved by itself, as points"
    return DenseSource(_name(path, key or ""), (len(names), dim), stacked, (note,))


def _name(path: Path, key: str) -> str:
    return f"{path}:{_in_line(key)}" if key else str(path)


def _in_line(text: str) -> str:
    """Escape what would break a line, or do worse to a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def _vectors(candidates: Mapping[str, Candidate], key: str | None) -> tuple[str, ...]:
    """Name the arrays below a key if they are vectors that can be points together, all of one length."""
    below = {name: array for name, array in candidates.items() if key is None or name.startswith(f"{key}/")}
    alike = {array.shape for array in below.values()}
    (shape,) = alike if len(alike) == 1 else [()]
    alike_points = len(below) > 1 and len(shape) == 1 and all(array.is_float for array in below.values())
    return tuple(below) if alike_points else ()


def offered(candidates: Mapping[str, Candidate]) -> str:
    """List the arrays that a file holds, but no more than a reader of the message would look at."""
    shown = [f"{_short(name)} {array.shape}" for name, array in list(candidates.items())[:_SHOWN_NAMES]]
    more = len(candidates) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _short(text: str) -> str:
    text = _in_line(text)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


def no_keys(path: Path, key: str | None) -> None:
    """Refuse a key for a file that holds one array without a name."""
    if key is not None:
        raise SelectionError(path, f"has no array {key!r}; it holds one array without a name")


@contextmanager
def reading(path: Path, place: str = "") -> Iterator[None]:
    """Turn whatever a library raises over a file into one line that names the file, and the place in it if known.

    Libraries promise nothing about damaged files: their parsers end in any exception, so none is let through.
    """
    try:
        yield
    except IsoScoreError:
        raise
    except MemoryError as error:
        raise FileContentError(_name(path, place), f"does not fit into memory{_because(error)}") from error
    except Exception as error:
        raise FileContentError(_name(path, place), f"cannot be read as {path.suffix}{_because(error)}") from error


def _because(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, UnicodeDecodeError):
        lines = [f"it is no text in UTF-8; save it as that ({error})"]
    if not lines or isinstance(error, LookupError):  # whose whole message is a missing key
        lines = [" ".join([type(error).__name__, *lines[:1]])]
    return f": {_in_line(lines[0][: 4 * _SHOWN_LETTERS])}"
