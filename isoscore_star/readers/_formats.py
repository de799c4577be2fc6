"""Table of suffixes and readers; a reader's module is imported when a file needs it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from isoscore_star import MissingDependencyError
from isoscore_star.readers._errors import FileContentError, SelectionError, reading
from isoscore_star.readers._source import ArraySource


class _Reader(NamedTuple):
    module: str
    function: str
    extra: str | None
    column: str | None = None

    @property
    def is_table(self) -> bool:
        return self.column is not None


_TORCH = _Reader("_torch", "open_torch", "torch")
_CSV = _Reader("_csv", "open_csv", None, "csv_column")
_WORDS = _Reader("_words", "open_words", None, "csv_column")
_IPC = _Reader("_arrow", "open_ipc", "files", "ipc_column")

_READERS = {
    ".npy": _Reader("_numpy", "open_npy", None),
    ".npz": _Reader("_numpy", "open_npz", None),
    ".safetensors": _Reader("_safetensors", "open_safetensors", "files"),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".bin": _TORCH,
    ".csv": _CSV,
    ".tsv": _CSV,
    ".vec": _WORDS,
    ".txt": _WORDS,
    ".parquet": _Reader("_arrow", "open_parquet", "files", "parquet_column"),
    ".arrow": _IPC,
    ".feather": _IPC,
}
SUFFIXES = tuple(_READERS)
_LFS_POINTER = b"version https://git-lfs"


def require_fetched(path: Path) -> None:
    """Require that a file is not a pointer of Git LFS to content that was not fetched."""
    with reading(path), path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise FileContentError(path, "is a Git LFS pointer, not the file it stands for; fetch that by git lfs pull")


def is_table(path: str | Path) -> bool:
    """Return whether a file has columns, by its suffix."""
    reader = _READERS.get(Path(path).suffix.lower())
    return reader is not None and reader.is_table


def open_array(path: str | Path, key: str | None = None, columns: Sequence[str] = ()) -> ArraySource:
    """Open a file of points, or of a matrix or a mask; its values are read when they are used.

    Parameters
    ----------
    path : str or Path
        A file with one of the suffixes in `SUFFIXES`.
    key : str, optional
        Which array of an archive, or which column of lists of a table, to take: its name or a pattern (``*``,
        ``?``, ``[0-9]``) that fits it alone. Without it, the only array, or the only one of floating-point
        numbers with at least two axes.
    columns : sequence of str, optional
        Names or patterns of the columns of a table that are the dimensions of its points, in their order. Without
        it, those that are numbered under one name if they are most of the columns of numbers, otherwise all of
        floating-point numbers, otherwise all of integers; ``notes`` lists what was left out.

    Returns
    -------
    ArraySource
        Its shape, and its points in blocks.

    Raises
    ------
    SelectionError
        If there is no such file, format or key, or more than one array matches.
    FileContentError
        If the file is damaged, or not of the format of its suffix.
    MissingDependencyError
        If the package that reads this format is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from isoscore_star.readers import open_array
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "points.npy"), np.zeros((5, 3)))
    ...     open_array(Path(folder, "points.npy")).shape
    (5, 3)
    """
    path = Path(path)
    reader, module = _reader(path)
    if not reader.is_table and columns:
        raise SelectionError(path, f"is no table, so it has no columns to choose; got columns {columns[0]!r}")
    arguments = (path, key, tuple(columns)) if reader.is_table else (path, key)
    source: ArraySource = getattr(module, reader.function)(*arguments)
    return source


def open_column(path: Path, name: str | None) -> list[Any]:
    """Read the cells of a table's column of any kind, by its name or, without one, of its only column."""
    reader, module = _reader(path)
    cells: list[Any] = getattr(module, str(reader.column))(path, name)
    return cells


def _reader(path: Path) -> tuple[_Reader, ModuleType]:
    """Return the reader of a file and its module, requiring that there is a file of a known format."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SelectionError(path, f"unknown suffix {path.suffix!r}; the known ones are {', '.join(SUFFIXES)}")
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "no such file"
        raise SelectionError(path, kind)
    if not path.stat().st_size:
        raise FileContentError(path, "is empty")
    require_fetched(path)
    try:
        return reader, importlib.import_module(f"isoscore_star.readers.{reader.module}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            path,
            f"reading {path.suffix} needs {error.name}, which is not installed: "
            f'pip install "isoscore-star[{reader.extra}]"',
        ) from error
