"""Zarr, versions 2 and 3: an array, or the arrays of a group by their paths; a part is read when it is used."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from isoscore_star.readers._archive import Candidate, choose, no_keys, offered
from isoscore_star.readers._chunked import keeping_chunks
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._memory import require_memory
from isoscore_star.readers._names import in_line, place
from isoscore_star.readers._source import DenseSource, Index

_BLOSC_HEADER = struct.Struct("<4BIII")  # versions, flags, type, and bytes: unpacked, of a block, of the chunk
_KNOWN = "biufSUT"  # numbers, and words


def open_zarr(path: Path, key: str | None) -> DenseSource:
    """Open a folder that zarr wrote."""
    with _reading(path):
        found = zarr.open(str(path), mode="r")
        arrays = {"": found} if isinstance(found, zarr.Array) else _arrays(found)
        candidates = {name: Candidate(tuple(one.shape), one.dtype.kind == "f") for name, one in arrays.items()}
    if "" in arrays:
        no_keys(path, key)
    name = "" if "" in arrays else choose(path, candidates, key)
    others = {} if key is not None else {other: one for other, one in candidates.items() if other != name}
    notes = (f"took {in_line(name)!r} alone; the group also holds {offered(others)}",) if others else ()
    array = arrays[name]
    with _reading(path, name):
        _check(path, array)
        chunk_rows, item_bytes = (array.chunks or (0,))[0], array.dtype.itemsize
    read = keeping_chunks(partial(_read, path, name, array), candidates[name].shape, chunk_rows, item_bytes)
    return DenseSource(place(path, name), candidates[name].shape, read, notes)


def _arrays(group: Any, before: str = "") -> dict[str, Any]:
    found = {f"{before}{name}": array for name, array in sorted(group.arrays())}
    for name, inside in sorted(group.groups()):
        found |= _arrays(inside, f"{before}{name}/")
    return found


def _read(path: Path, name: str, array: Any, index: Index) -> NDArray[Any]:
    with _reading(path, name):
        values = np.asarray(array[index or ...])
    return values.astype(str) if values.dtype.kind in "OT" else values


def _check(path: Path, array: Any) -> None:
    kind, numbers = array.dtype.kind, prod(array.shape)
    if kind not in _KNOWN:
        raise ValueError(f"it holds {array.dtype}, which are no numbers. Save it as an array of numbers")
    _require_whole_blosc(path, array)
    if not numbers or kind != "f":  # of labels and masks a chunk of zeros may be left out
        return
    require_memory(str(path), prod(array.chunks) * array.dtype.itemsize, "a chunk of it, unpacked,")
    missing = array.nchunks - array.nchunks_initialized
    if missing > 0:
        raise FileContentError(
            place(path, array.basename or ""),
            f"{missing:,} of its {array.nchunks:,} chunks are not there; they would be read as {array.fill_value}. "
            "Write them all (zarr.config.set({'array.write_empty_chunks': True}) also those that are zero)",
        )


def _require_whole_blosc(path: Path, array: Any) -> None:
    """Require that chunks of Blosc are as long as their headers say, since Blosc reads on behind one that was cut."""
    codecs = json.dumps(array.metadata.to_dict(), default=str) if hasattr(array, "metadata") else str(array.compressor)
    if "blosc" not in codecs.lower() or "sharding_indexed" in codecs:
        return
    for file in (path / array.path).rglob("*"):
        if not file.is_file() or file.name.startswith(".") or file.name == "zarr.json":
            continue
        with file.open("rb") as content:
            header = content.read(_BLOSC_HEADER.size)
        size = file.stat().st_size
        promised = _BLOSC_HEADER.unpack(header)[-1] if len(header) == _BLOSC_HEADER.size else _BLOSC_HEADER.size
        if size != promised:
            raise FileContentError(file, f"is a damaged chunk: it has {size:,} bytes, but promises {promised:,}")


@contextmanager
def _reading(path: Path, name: str = "") -> Iterator[None]:
    """Raise our errors, see `reading`, and keep zarr's warnings about data types and versions."""
    with reading(path, part=name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
