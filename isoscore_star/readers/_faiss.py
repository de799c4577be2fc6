"""Indices of faiss: their vectors, as far as they can be had back."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from faiss.contrib.inspect_tools import get_invlist
from numpy.typing import NDArray

from isoscore_star.readers._archive import no_keys
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._memory import require_memory
from isoscore_star.readers._source import DenseSource, Index

_EXACT = ("IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexIVFFlat", "IndexHNSWFlat", "IndexNSGFlat", "IndexRefineFlat")


def open_faiss(path: Path, key: str | None) -> DenseSource:
    """Open a .faiss or .index file, which is read whole; the rows are in the order in which they were added."""
    no_keys(path, key)
    require_memory(str(path), path.stat().st_size, "the index")
    changed = path.stat().st_mtime_ns
    with reading(path):
        index = _opened(path, changed)[0]
        kind, shape = type(index).__name__, (int(index.ntotal), int(index.d))
        _require_order(path, index)
        if shape[0]:
            _rows(path, index, 0, 1)
    decoded = f"its vectors are decoded from the codes of its kind, {kind}, which are approximations"
    notes = () if kind in _EXACT else (decoded,)

    def read(at: Index) -> NDArray[Any]:
        with reading(path):
            index = _opened(path, changed)[0]
            if at and not isinstance(at[0], slice):
                return np.asarray(_rows(path, index, at[0], 1)[0])
            start, stop, _ = (at[0] if at else slice(None)).indices(shape[0])  # type: ignore[union-attr]
            return _rows(path, index, start, stop - start)

    return DenseSource(str(path), shape, read, notes)


# One file at a time, since its blocks are read one after another.
@lru_cache(maxsize=1)
def _opened(path: Path, changed: int) -> tuple[Any, ...]:
    """Return an index and those that hold it, since each is in the memory of the next."""
    with path.open("rb") as file:
        if not file.read(4).startswith(b"I"):
            raise FileContentError(path, "is no index of faiss")
    whole = faiss.read_index(str(path))
    found = [faiss.downcast_index(whole), whole]
    # One that gives its vectors other numbers keeps them in the order in which they came.
    while isinstance(found[0], (faiss.IndexIDMap, faiss.IndexIDMap2)):
        found.insert(0, faiss.downcast_index(found[0].index))
    if found[0].d < 1 or found[0].ntotal < 0:
        raise FileContentError(path, f"is damaged: it holds {found[0].ntotal} vectors of {found[0].d} numbers")
    return tuple(found)


def _rows(path: Path, index: Any, start: int, count: int) -> NDArray[np.float32]:
    try:
        return np.asarray(index.reconstruct_n(start, count))
    except RuntimeError as error:
        raise FileContentError(
            path,
            f"its vectors cannot be had back from {type(index).__name__}, which keeps only what it searches by. Give "
            "the vectors that it was made of",
        ) from error


def _require_order(path: Path, index: Any) -> None:
    """Require that lists hold vectors 0 to n − 1, since other numbers leave gaps."""
    if not isinstance(index, faiss.IndexIVF):
        return
    numbers = [get_invlist(index.invlists, i)[0] for i in range(index.nlist)]
    if not np.array_equal(np.sort(np.concatenate(numbers)), np.arange(index.ntotal)):
        raise FileContentError(
            path, f"its vectors have numbers of their own, not 0 to {index.ntotal - 1:,}. Give the vectors themselves"
        )
