"""Table of formats and readers; a reader's module is imported when a file needs it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from isoscore_star import MissingDependencyError
from isoscore_star.readers._errors import FileContentError, SelectionError, reading
from isoscore_star.readers._names import suffix_of
from isoscore_star.readers._source import ArraySource


class _Reader(NamedTuple):
    module: str
    function: str
    extra: str | None
    column: str | None = None
    is_partitioned: bool = False  # takes the columns that names of folders are

    @property
    def is_table(self) -> bool:
        return self.column is not None


_TORCH = _Reader("_torch", "open_torch", "torch")
_CSV = _Reader("_csv", "open_csv", None, "csv_column")
_WORDS = _Reader("_words", "open_words", None, "csv_column")
_FAISS = _Reader("_faiss", "open_faiss", "faiss")
_HDF5 = _Reader("_hdf5", "open_hdf5", "hdf5")
_IPC = _Reader("_arrow", "open_ipc", "files", "ipc_column", is_partitioned=True)

_SAVED, _HUB = "a folder of save_to_disk", "hf://datasets/owner/name"

_READERS = {
    ".npy": _Reader("_numpy", "open_npy", None),
    ".npz": _Reader("_numpy", "open_npz", None),
    ".safetensors": _Reader("_safetensors", "open_safetensors", "files"),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".bin": _Reader("_bin", "open_bin", None),
    ".csv": _CSV,
    ".tsv": _CSV,
    ".vec": _WORDS,
    ".emb": _WORDS,
    ".txt": _WORDS,
    ".csv.gz": _CSV,
    ".tsv.gz": _CSV,
    ".vec.gz": _WORDS,
    ".emb.gz": _WORDS,
    ".txt.gz": _WORDS,
    ".parquet": _Reader("_arrow", "open_parquet", "files", "parquet_column", is_partitioned=True),
    ".arrow": _IPC,
    ".feather": _IPC,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".zarr": _Reader("_zarr", "open_zarr", "zarr"),
    ".lance": _Reader("_lance", "open_lance", "lance", "lance_column"),
    ".faiss": _FAISS,
    ".index": _FAISS,
    _SAVED: _Reader("_datasets", "open_saved", "datasets", "saved_column"),
    _HUB: _Reader("_datasets", "open_hub", "datasets", "hub_column"),
}
SUFFIXES = tuple(name for name in _READERS if name.startswith("."))
_FOLDERS: dict[str, tuple[str, ...]] = {
    ".zarr": ("zarr.json", ".zarray", ".zgroup"),
    ".lance": (),
    _SAVED: ("dataset_dict.json", "state.json"),
}
"""For each format that is a folder, the files of which one shows that a folder without its suffix is of that format."""
_LFS_POINTER = b"version https://git-lfs"


def format_of(path: Path) -> str | None:
    """Return the format of a file by its suffix, or of a folder that is an array; None if it is unknown."""
    if path.is_dir():
        return folder_format(path)
    if is_on_hub(path):
        return _HUB
    suffix = suffix_of(path)
    return suffix if suffix in _READERS and suffix not in _FOLDERS else None


def is_on_hub(path: Path) -> bool:
    """Return whether a name is that of a data set on the Hub."""
    return re.match(r"hf:/+datasets/", str(path)) is not None


def folder_format(path: Path) -> str | None:
    """Return the format of a folder that is an array, by its suffix or by the files in it; None if it is none."""
    suffix = suffix_of(path)
    if suffix in _FOLDERS:
        return suffix if path.is_dir() else None
    return next((form for form, marks in _FOLDERS.items() if any((path / mark).is_file() for mark in marks)), None)


def require_fetched(path: Path) -> None:
    """Require that a file is not a pointer of Git LFS to content that was not fetched."""
    with reading(path), path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise FileContentError(path, "is a Git LFS pointer, not the file it stands for; fetch that by git lfs pull")


def is_table_file(path: Path) -> bool:
    """Return whether a file has columns, by its format."""
    reader = _READERS.get(format_of(path) or "")
    return reader is not None and reader.is_table


def open_file(
    path: Path, key: str | None = None, columns: Sequence[str] = (), partition: Mapping[str, Any] | None = None
) -> ArraySource:
    """Open one file, see `isoscore_star.readers.open_array`; `partition` has columns that are the same in all rows."""
    reader, module = _reader(path)
    if not reader.is_table and columns:
        raise SelectionError(path, f"is no table, so it has no columns to choose; got columns {columns[0]!r}")
    arguments: tuple[Any, ...] = (path, key, tuple(columns)) if reader.is_table else (path, key)
    if partition and reader.is_partitioned:
        arguments += (partition,)
    source: ArraySource = getattr(module, reader.function)(*arguments)
    return source


def cells_of_file(path: Path, name: str | None, partition: Mapping[str, Any] | None = None) -> list[Any]:
    """Read the cells of a table's column of any kind, by its name or, without one, of its only column."""
    reader, module = _reader(path)
    arguments = (path, name, partition) if partition and reader.is_partitioned else (path, name)
    cells: list[Any] = getattr(module, str(reader.column))(*arguments)
    return cells


def _reader(path: Path) -> tuple[_Reader, ModuleType]:
    """Return the reader of a file and its module, requiring that there is a file of a known format."""
    form = format_of(path) or suffix_of(path)
    reader = _READERS.get(form or "")
    if reader is None:
        raise SelectionError(path, f"unknown suffix {suffix_of(path)!r}; the known ones are {', '.join(SUFFIXES)}")
    if form not in (*_FOLDERS, _HUB) or (form in _FOLDERS and not path.is_dir()):
        if not path.is_file():
            raise SelectionError(path, "is no regular file" if path.exists() else "no such file")
        if not path.stat().st_size:
            raise FileContentError(path, "is empty")
        require_fetched(path)
    try:
        return reader, importlib.import_module(f"isoscore_star.readers.{reader.module}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            path,
            f'reading {form} needs {error.name}, which is not installed: pip install "isoscore-star[{reader.extra}]"',
        ) from error
