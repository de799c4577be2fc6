"""Archives of several arrays: one is taken by its key, or vectors that were saved one by one are stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.readers._errors import FileContentError, SelectionError, SeveralArraysError
from isoscore_star.readers._names import SHOWN, in_line, matching, place, shortened
from isoscore_star.readers._source import DenseSource, Index


class Candidate(NamedTuple):
    """An array that an archive or a table offers."""

    shape: tuple[int, ...]
    is_float: bool


def choose(path: Path, candidates: Mapping[str, Candidate], key: str | None) -> str:
    """Return the name of the array that a key matches or, without a key, of the only one that can hold points."""
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
    """Open an array of an archive, or stack its vectors where each point was saved under a separate name.

    `check` raises if an array of these names cannot be read; `read` returns the part of each at an index.
    """
    names = () if key in candidates else _vectors(candidates, key)
    if not names:
        name = choose(path, candidates, key)
        check((name,))
        others = {} if key is not None else {other: array for other, array in candidates.items() if other != name}
        notes = (f"took {in_line(name)!r} alone; the file also holds {offered(others)}",) if others else ()
        return DenseSource(place(path, name), candidates[name].shape, lambda index: read((name,), index)[0], notes)
    check(names)
    dim = candidates[names[0]].shape[0]

    def stacked(index: Index) -> NDArray[Any]:
        rows = index[0] if index else slice(None)
        return np.stack(read(names[rows], ())) if isinstance(rows, slice) else read((names[rows],), ())[0]

    note = f"stacked {len(names):,} vectors of {dim:,} numbers, each saved by itself, as points"
    return DenseSource(place(path, key or ""), (len(names), dim), stacked, (note,))


def _vectors(candidates: Mapping[str, Candidate], key: str | None) -> tuple[str, ...]:
    """Return the names below a key if all their arrays are vectors of one length, which together are points."""
    below = {name: array for name, array in candidates.items() if key is None or name.startswith(f"{key}/")}
    alike = {array.shape for array in below.values()}
    (shape,) = alike if len(alike) == 1 else [()]
    alike_points = len(below) > 1 and len(shape) == 1 and all(array.is_float for array in below.values())
    return tuple(below) if alike_points else ()


def offered(candidates: Mapping[str, Candidate]) -> str:
    """Return a list of a file's arrays for a message, shortened."""
    shown = [f"{in_line(shortened(name))} {array.shape}" for name, array in list(candidates.items())[:SHOWN]]
    more = len(candidates) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def no_keys(path: Path, key: str | None) -> None:
    """Require that there is no key, for a file that holds one array without a name."""
    if key is not None:
        raise SelectionError(path, f"has no array {key!r}; it holds one array without a name")
