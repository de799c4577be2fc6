"""HDF5: datasets by their paths; a part is read when it is used."""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from isoscore_star.readers._archive import Candidate, dense
from isoscore_star.readers._chunked import keeping_chunks
from isoscore_star.readers._errors import reading
from isoscore_star.readers._memory import require_memory
from isoscore_star.readers._source import DenseSource, Index

_NUMBERS, _WORDS = "biuf", "SUO"


def open_hdf5(path: Path, key: str | None) -> DenseSource:
    """Open a dataset of a .h5 or .hdf5 file; links to other files are not followed."""
    with reading(path), h5py.File(path, "r") as file:
        found: dict[str, Any] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        candidates = {name: Candidate(tuple(item.shape or ()), item.dtype.kind == "f") for name, item in found.items()}
        faults = {name: _fault(path, item) for name, item in found.items()}
        chunks = {name: (item.chunks or (0,))[0] for name, item in found.items()}
        sizes = {name: item.dtype.itemsize for name, item in found.items()}

    def check(names: tuple[str, ...]) -> None:
        for name in names:
            with reading(path, part=name):
                if faults[name]:
                    raise ValueError(faults[name])

    def read(names: tuple[str, ...], index: Index) -> list[NDArray[Any]]:
        with reading(path, part=names[0]), h5py.File(path, "r") as file:
            return [_values(file[name], index) for name in names]

    source = dense(path, candidates, key, check, read)
    name = source.name.removeprefix(f"{path}:")
    if name not in chunks:  # vectors that are stacked
        return source
    through = keeping_chunks(source.read, source.shape, chunks[name], sizes[name])
    return DenseSource(source.name, source.shape, through, source.notes)


def _values(dataset: Any, index: Index) -> NDArray[Any]:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[index or ...]).astype(str)
    return np.asarray(dataset[index or ...])


def _fault(path: Path, dataset: Any) -> str:
    """Return why a dataset cannot be read as numbers, or as words, that are all in this file."""
    kind, numbers = dataset.dtype.kind, prod(dataset.shape or ())
    if kind not in _NUMBERS + _WORDS or (kind == "O" and h5py.check_string_dtype(dataset.dtype) is None):
        return f"it holds {dataset.dtype}, which are no numbers. Save it as an array of numbers"
    if dataset.is_virtual or dataset.external:
        return "its values are in other files. Copy them into one (h5repack)"
    if dataset.chunks is not None and kind in "f" and numbers:
        chunks = prod(ceil(size / own) for size, own in zip(dataset.shape, dataset.chunks, strict=True))
        there = dataset.id.get_num_chunks()
        if there < chunks:
            return (
                f"{chunks - there:,} of its {chunks:,} chunks were never written; they would be read as "
                f"{dataset.fillvalue:g}"
            )
        most = prod(dataset.chunks) * dataset.dtype.itemsize
        require_memory(str(path), most, "a chunk of it, unpacked,")
    elif kind == "f" and numbers and not dataset.id.get_storage_size():
        return f"its values were never written; they would be read as {dataset.fillvalue:g}"
    return ""
