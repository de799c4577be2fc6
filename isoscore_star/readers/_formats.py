"""One table from suffixes to readers. A reader is imported, and its package with it, when a file needs it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from isoscore_star._errors import MissingDependencyError
from isoscore_star.readers._source import ArraySource, FileContentError, SelectionError, reading


class _Reader(NamedTuple):
    module: str
    function: str
    extra: str | None


_NPY = _Reader("_numpy", "open_npy", None)
_NPZ = _Reader("_numpy", "open_npz", None)
_SAFETENSORS = _Reader("_safetensors", "open_safetensors", "files")
_TORCH = _Reader("_torch", "open_torch", "torch")
_CSV = _Reader("_csv", "open_csv", "files")
_PARQUET = _Reader("_arrow", "open_parquet", "files")
_IPC = _Reader("_arrow", "open_ipc", "files")

_READERS = {
    ".npy": _NPY,
    ".npz": _NPZ,
    ".safetensors": _SAFETENSORS,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".bin": _TORCH,
    ".csv": _CSV,
    ".tsv": _CSV,
    ".parquet": _PARQUET,
    ".arrow": _IPC,
    ".feather": _IPC,
}
SUFFIXES = tuple(_READERS)
_LFS_POINTER = b"version https://git-lfs"


def open_array(path: str | Path, key: str | None = None) -> ArraySource:
    """Open a file of points, or of a matrix or a mask; little is read before its values are asked for.

    Parameters
    ----------
    path : str or Path
        A file with one of the suffixes in `SUFFIXES`.
    key : str, optional
        Which array of an archive, or which column of a table, to take. Without it, the only array, or the
        only one of floating-point numbers with at least two axes.

    Returns
    -------
    ArraySource
        Its shape, and its points in blocks.

    Raises
    ------
    SelectionError
        If there is no such file, format or key, or the choice is open.
    FileContentError
        If the file is damaged, or holds something else than its suffix says.
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
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SelectionError(f"{path}: unknown suffix {path.suffix!r}; the known ones are {', '.join(SUFFIXES)}")
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "no such file"
        raise SelectionError(f"{path}: {kind}")
    with reading(path), path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if not start:
        raise FileContentError(f"{path}: is empty")
    if start == _LFS_POINTER:
        raise FileContentError(f"{path}: is a Git LFS pointer, not the file it stands for; fetch that by git lfs pull")
    try:
        module = importlib.import_module(f"isoscore_star.readers.{reader.module}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{path}: reading {path.suffix} needs {error.name}, which is not installed: "
            f'pip install "isoscore-star[{reader.extra}]"'
        ) from error
    source: ArraySource = getattr(module, reader.function)(path, key)
    return source
