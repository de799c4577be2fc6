"""Safetensors: a part is read when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from isoscore_star import get_backend
from isoscore_star.readers._archive import Candidate, dense
from isoscore_star.readers._errors import reading
from isoscore_star.readers._source import DenseSource, Index

_NUMPY_DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64")
_TORCH_DTYPES = ("BF16",)


def open_safetensors(path: Path, key: str | None) -> DenseSource:
    """Open an array of a .safetensors file; torch reads bfloat16, for which NumPy has no dtype."""
    with reading(path), safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        dtypes = {name: part.get_dtype() for name, part in slices.items()}
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    candidates = {name: Candidate(shapes[name], dtypes[name].startswith(("F", "BF"))) for name in shapes}

    def check(names: tuple[str, ...]) -> None:
        for name in names:
            with reading(path, part=name):
                if dtypes[name] not in _NUMPY_DTYPES + _TORCH_DTYPES:
                    raise ValueError(f"its numbers are {dtypes[name]}, which is not known here. Save them as float32")

    def read(names: tuple[str, ...], index: Index) -> list[NDArray[Any]]:
        torch = None if all(dtypes[name] in _NUMPY_DTYPES for name in names) else get_backend("torch")
        framework = "numpy" if torch is None else "pt"
        with reading(path, part=names[0]), safe_open(path, framework=framework) as file:
            parts = [file.get_slice(name)[index] for name in names]
            return [np.asarray(part if torch is None else torch.to_numpy(part)) for part in parts]

    return dense(path, candidates, key, check, read)
