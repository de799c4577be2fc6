"""NumPy's own files: .npy is mapped into memory, .npz is read array by array."""

from __future__ import annotations

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from isoscore_star.readers._source import (
    Candidate,
    DenseSource,
    FileContentError,
    Index,
    choose,
    no_keys,
    reading,
)

_DAMAGE = (ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def open_npy(path: Path, key: str | None) -> DenseSource:
    """Map a .npy file; it is read as it is used."""
    no_keys(path, key)

    def read(index: Index) -> NDArray[Any]:
        # Mapped anew for each part, so that the pages of parts already used do not stay in memory.
        with reading(path, *_DAMAGE):
            part: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)[index]
            return part

    with reading(path, *_DAMAGE), path.open("rb") as file:
        header = _header(file)
        _refuse_objects(str(path), header[1])
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
    return DenseSource(str(path), whole.shape, read)


def open_npz(path: Path, key: str | None) -> DenseSource:
    """Read one array of a .npz file whole when it is first used: zipped, it cannot be read in parts."""
    with reading(path, *_DAMAGE), zipfile.ZipFile(path) as archive:
        headers = {}
        for member in archive.namelist():
            with archive.open(member) as file:
                headers[member.removesuffix(".npy")] = _header(file)
    chosen = choose(path, {k: Candidate(shape, dtype.kind == "f") for k, (shape, dtype) in headers.items()}, key)
    name = f"{path}:{chosen}"
    _refuse_objects(name, headers[chosen][1])
    changed = path.stat().st_mtime_ns

    def read(index: Index) -> NDArray[Any]:
        part: NDArray[Any] = _member(path, chosen, changed)[index]
        return part

    return DenseSource(name, headers[chosen][0], read)


# One array at a time, since its blocks, or its layers, are read one after another.
@lru_cache(maxsize=1)
def _member(path: Path, key: str, changed: int) -> NDArray[Any]:
    with reading(path, *_DAMAGE), np.load(path, allow_pickle=False) as archive:
        array: NDArray[Any] = archive[key]
        return array


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy_format.read_magic(file)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _refuse_objects(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise FileContentError(
            f"{name}: holds Python objects (dtype object), which are never unpickled. "
            "Save it again as an array of numbers"
        )
