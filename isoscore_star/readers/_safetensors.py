"""Safetensors: parts are read as they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from isoscore_star._registry import get_backend
from isoscore_star.readers._source import Candidate, DenseSource, Index, choose, reading

_NUMPY_DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64")


def open_safetensors(path: Path, key: str | None) -> DenseSource:
    """Open one array of a .safetensors file; what NumPy has no dtype for (bfloat16) is read by torch."""
    with reading(path, SafetensorError), safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        dtypes = {name: part.get_dtype() for name, part in slices.items()}
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    candidates = {name: Candidate(shapes[name], dtypes[name].startswith(("F", "BF"))) for name in shapes}
    chosen = choose(path, candidates, key)
    torch = None if dtypes[chosen] in _NUMPY_DTYPES else get_backend("torch")

    def read(index: Index) -> NDArray[Any]:
        with (
            reading(path, SafetensorError, TypeError),
            safe_open(path, framework="numpy" if torch is None else "pt") as file,
        ):
            part = file.get_slice(chosen)[index]
            return np.asarray(part if torch is None else torch.to_numpy(part))

    return DenseSource(f"{path}:{chosen}", shapes[chosen], read)
