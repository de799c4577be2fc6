"""Files of torch.save: a tensor, or a dict or list of tensors, never any other pickled object."""

from __future__ import annotations

import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from isoscore_star._registry import get_backend
from isoscore_star.readers._source import (
    Candidate,
    DenseSource,
    FileContentError,
    Index,
    choose,
    no_keys,
    reading,
)

_ALONE = ""
"""Stands for the key of a tensor that is alone in its file."""


def open_torch(path: Path, key: str | None) -> DenseSource:
    """Map a .pt or .pth file into memory; one from before torch 1.6 is read whole."""
    changed = path.stat().st_mtime_ns
    tensors = _tensors(path, changed)
    if _ALONE in tensors:
        no_keys(path, key)
    candidates = {k: Candidate(tuple(t.shape), t.is_floating_point()) for k, t in tensors.items()}
    chosen = choose(path, candidates, key)

    def read(index: Index) -> NDArray[Any]:
        with reading(path, RuntimeError, TypeError):
            return get_backend("torch").to_numpy(_tensors(path, changed)[chosen][index])

    name = str(path) if chosen == _ALONE else f"{path}:{chosen}"
    return DenseSource(name, candidates[chosen].shape, read)


# One file at a time, since its blocks, or its layers, are read one after another.
@lru_cache(maxsize=1)
def _tensors(path: Path, changed: int) -> dict[str, torch.Tensor]:
    try:
        # On stderr there is to be one line, and torch warns of what a damaged file seems to ask for.
        with reading(path, RuntimeError, ValueError, zipfile.BadZipFile), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (FileContentError, MemoryError):
        raise
    except Exception as error:  # an unpickler runs the bytes as a program, and bytes at random end in any error
        raise FileContentError(
            f"{path}: is damaged or holds other Python objects than tensors, which are never unpickled. "
            "Save a tensor, or a dict or list of tensors"
        ) from error
    if isinstance(found, torch.Tensor):
        return {_ALONE: found}
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, (list, tuple)) else ()
    return {str(name): value for name, value in items if isinstance(value, torch.Tensor)}
