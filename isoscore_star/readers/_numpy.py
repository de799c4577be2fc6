"""NumPy's files: .npy is mapped into memory, .npz is read array by array."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from isoscore_star.readers._archive import Candidate, dense, no_keys
from isoscore_star.readers._errors import reading
from isoscore_star.readers._memory import require_memory
from isoscore_star.readers._source import DenseSource, Index

_VERSIONS = ((1, 0), (2, 0), (3, 0))
_LONGEST_HEADER = 10_000  # NumPy's limit for files that are not trusted


class _Layout(NamedTuple):
    """Shape and dtype by an array's header, and where its values start."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def open_npy(path: Path, key: str | None) -> DenseSource:
    """Map a .npy file into memory."""
    no_keys(path, key)
    with reading(path), path.open("rb") as file:
        layout = _layout(file)
    _check(path, "", layout, path.stat().st_size)

    def read(index: Index) -> NDArray[Any]:
        # Mapped for each part again, so that the pages of parts already used do not stay in memory.
        with reading(path):
            order: Any = "F" if layout.fortran else "C"
            return np.memmap(path, layout.dtype, "r", layout.start, layout.shape, order)[index]

    return DenseSource(str(path), layout.shape, read)


def open_npz(path: Path, key: str | None) -> DenseSource:
    """Open an array of a .npz file, which is read whole when it is first used: a zipped one cannot be read in parts."""
    members, layouts = {}, {}
    with reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            members[name] = member
            with reading(path, part=name), archive.open(member) as file:
                layouts[name] = _layout(file)
    changed = path.stat().st_mtime_ns

    def check(names: tuple[str, ...]) -> None:
        for name in names:
            _check(path, name, layouts[name], members[name].file_size)
        require_memory(str(path), sum(layouts[name].end for name in names), "what it holds, unpacked,")

    def read(names: tuple[str, ...], index: Index) -> list[NDArray[Any]]:
        return [array[index] for array in _unpacked(path, tuple(members[name].filename for name in names), changed)]

    candidates = {name: Candidate(layout.shape, layout.dtype.kind == "f") for name, layout in layouts.items()}
    return dense(path, candidates, key, check, read)


# One array at a time, since its blocks, or its layers, are read one after another.
@lru_cache(maxsize=1)
def _unpacked(path: Path, members: tuple[str, ...], changed: int) -> list[NDArray[Any]]:
    arrays = []
    with reading(path), zipfile.ZipFile(path) as archive:
        for member in members:
            with reading(path, part=member), archive.open(member) as file:
                arrays.append(npy_format.read_array(file, allow_pickle=False))
                file.read(1)  # to the end, where checksums are compared
    return arrays


def _layout(file: IO[bytes]) -> _Layout:
    """Read a header, at most the length that NumPy allows."""
    start = io.BytesIO(file.read(_LONGEST_HEADER))
    version = npy_format.read_magic(start)
    if version not in _VERSIONS:
        raise ValueError(f"version {version} of the format is unknown")
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    with warnings.catch_warnings():  # about headers of Python 2 and damaged ones
        warnings.simplefilter("ignore")
        try:
            shape, fortran, dtype = read(start)
        except Exception as error:  # Python's parsers, which NumPy calls, raise many classes
            raise ValueError(f"its header is damaged ({error})") from error
    return _Layout(shape, fortran, dtype, start.tell())


def _check(path: Path, name: str, layout: _Layout, size: int) -> None:
    """Require that a header fits the size of the file."""
    with reading(path, part=name):
        if layout.dtype.hasobject:
            raise ValueError(
                "it holds Python objects (dtype object), which are never unpickled. Save it as an array of numbers"
            )
        if min(layout.shape, default=0) < 0 or not layout.dtype.itemsize or layout.end != size:
            raise ValueError(
                f"its header promises shape {layout.shape} of {layout.dtype}, which ends after {layout.end:,} bytes, "
                f"but there are {size:,} (it is damaged or cut off, or several arrays were saved into it)"
            )
