"""Files of torch.save: a tensor, or dicts and lists of tensors, never any other pickled object."""

from __future__ import annotations

import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from isoscore_star import get_backend
from isoscore_star.readers._archive import Candidate, dense, no_keys
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._source import DenseSource, Index

_ALONE = ""  # key of the only tensor of a file
_DEEPEST, _MOST = 32, 1_000_000
_MOST_REPEATED = 2**27
"""Values, about a gigabyte, that an expanded tensor may have by repeating the fewer in its file."""


def open_torch(path: Path, key: str | None) -> DenseSource:
    """Map a .pt, .pth or .bin file into memory; one from before torch 1.6 is read whole."""
    changed = path.stat().st_mtime_ns
    tensors = _tensors(path, changed)
    if _ALONE in tensors:
        no_keys(path, key)
    with reading(path):
        candidates = {k: Candidate(tuple(t.shape), t.is_floating_point()) for k, t in tensors.items()}

    def check(names: tuple[str, ...]) -> None:
        for name in names:
            with reading(path, part=name):
                _check(tensors[name])

    def read(names: tuple[str, ...], index: Index) -> list[NDArray[Any]]:
        tensors = _tensors(path, changed)
        with reading(path, part=names[0]):
            return [get_backend("torch").to_numpy(tensors[name][index]) for name in names]

    return dense(path, candidates, key, check, read)


def _check(tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "no values" if tensor.is_meta else f"a tensor of dtype {tensor.dtype} and layout {tensor.layout}"
        raise ValueError(f"it holds {kind}. Save a dense tensor of numbers (to_dense, dequantize)")
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > max(stored, _MOST_REPEATED):
        raise ValueError(
            f"it shows {tensor.numel():,} values of shape {tuple(tensor.shape)}, but holds {stored:,}, which it "
            "repeats (an expanded tensor). Save it without the repetition"
        )


# One file at a time, since its blocks, or its layers, are read one after another.
@lru_cache(maxsize=1)
def _tensors(path: Path, changed: int) -> dict[str, torch.Tensor]:
    with reading(path):
        try:
            # torch warns about damaged files, which the error below explains.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mapped = zipfile.is_zipfile(path)
                if mapped:
                    _check_headers(path)
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except (RuntimeError, ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile):
            raise
        except Exception as error:  # an unpickler runs the bytes as a program, so damaged ones raise any error
            raise FileContentError(
                path,
                "is damaged or holds other Python objects than tensors, which are never unpickled. "
                "Save a tensor, or a dict or list of tensors",
            ) from error
        return _named(path, content)


def _check_headers(path: Path) -> None:
    """Compare the header of each record with the directory, which torch omits for mapped files."""
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            archive.open(record).close()


def _named(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors by the keys and positions that lead to them, joined by slashes."""
    tensors: dict[str, torch.Tensor] = {}
    waiting = [(_ALONE, content, 0)]
    for _ in range(_MOST):  # a list may hold itself
        if not waiting:
            return tensors
        name, value, depth = waiting.pop()
        if isinstance(value, torch.Tensor):
            tensors[name] = torch.cat(value.unbind()) if value.is_nested else value
        elif isinstance(value, (dict, list, tuple)) and depth < _DEEPEST:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            below = [(f"{name}/{key}" if depth else str(key), part, depth + 1) for key, part in items]
            waiting += reversed(below)
    raise FileContentError(path, f"holds more than {_MOST:,} entries; save one tensor of all points")
