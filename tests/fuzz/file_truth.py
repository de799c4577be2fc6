"""What a file holds by the word of its own library, and the scores by Algorithm 1 that this allows."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import datasets
import faiss
import h5py
import lance
import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
import zarr
from pyarrow import ipc, parquet

from isoscore_star.reference import score_from_eigenvalues

Clouds = Iterator[np.ndarray]
Reader = Callable[[Path, str, int], Clouds]
"""From a file, the key of an array and the number of columns that may be left out to the clouds that it may hold."""


def algorithm_1(points: np.ndarray) -> float:
    """Score in float64 of points brought to the unit of their largest value, from steps 1 and 3 to 7."""
    values = np.asarray(points).astype(np.longdouble)
    if values.ndim < 2:
        raise ValueError(f"no points: shape {values.shape}")
    values = values.reshape(-1, values.shape[-1])
    if len(values) < 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError("no points that can be scored")
    values = values / np.abs(values).max()
    values = values - values[0]
    values = values / np.abs(values).max()
    values = values - values.mean(axis=0)
    return score_from_eigenvalues(np.linalg.eigvalsh((values.T @ values).astype(np.float64)))


def _npy(path: Path, key: str, most_left_out: int) -> Clouds:
    yield np.load(path, allow_pickle=False)


def _npz(path: Path, key: str, most_left_out: int) -> Clouds:
    with np.load(path, allow_pickle=False) as archive:
        yield archive[key]


def _safetensors(path: Path, key: str, most_left_out: int) -> Clouds:
    yield _numbers(safetensors.torch.load_file(path)[key])


def _torch(path: Path, key: str, most_left_out: int) -> Clouds:
    found = torch.load(path, map_location="cpu", weights_only=True)
    for part in key.split("/") if key else []:
        names = {str(name): name for name in (found if isinstance(found, dict) else range(len(found)))}
        found = found[names[part]]
    if isinstance(found, torch.Tensor):
        yield _numbers(found)
    else:  # vectors that are points together, or the only array
        items = list(found.values() if isinstance(found, dict) else found)
        yield np.stack([_numbers(item) for item in items])


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _text(separator: str, opened: Callable[..., TextIO] = Path.open) -> Reader:
    def read(path: Path, key: str, most_left_out: int) -> Clouds:
        with opened(path, mode="rt", encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=separator) if row]
        if most_left_out and rows and all(len(row) == len(rows[0]) + 1 for row in rows[1:]):
            rows = [rows[0], *(row[1:] for row in rows[1:])]  # R gives no name to the names of rows
        if len({len(row) for row in rows}) > 1:
            raise ValueError("ragged")
        for body in _bodies(rows):
            columns = [[_float(cell) for cell in column] for column in zip(*body, strict=True)]
            if any(None in column and any(cell is not None for cell in column) for column in columns):
                continue  # a column of numbers has a cell that is none, which allows no score
            yield from _subsets([np.array(column) for column in columns if None not in column], most_left_out)

    return read


def _bodies(rows: list[list[str]]) -> list[list[list[str]]]:
    """Give what may be the rows of points: a first one without numbers is no point, and one of numbers alone is."""
    numbers = [_float(cell) for cell in rows[0]] if rows else []
    if None not in numbers:
        return [rows, rows[1:]] if numbers == list(range(len(numbers))) else [rows]
    return [rows[1:]] if all(number is None for number in numbers) else [rows, rows[1:]]


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _subsets(columns: list[np.ndarray], most_left_out: int) -> Clouds:
    """Give all columns, and all but a few, which a damaged header makes an index or a label."""
    for left_out in range(min(most_left_out, len(columns) - 1) + 1):
        for chosen in itertools.combinations(columns, len(columns) - left_out):
            if len(chosen) > 1:
                yield np.column_stack(chosen)


def _parquet(path: Path, key: str, most_left_out: int) -> Clouds:
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        yield from _columns(file.read(columns=[key] if key else None), key, most_left_out)


def _arrow(path: Path, key: str, most_left_out: int) -> Clouds:
    content = path.read_bytes()
    try:
        table = ipc.open_file(content).read_all()
    except pa.ArrowInvalid:
        table = ipc.open_stream(content).read_all()
    yield from _columns(table, key, most_left_out)


def _columns(table: pa.Table, key: str, most_left_out: int) -> Clouds:
    if key:
        column = table.column(key)
        column.validate(full=True)
        yield np.array(column.to_pylist(), dtype=np.float64)
        return
    table.validate(full=True)
    numbers = [c for c in table.columns if pa.types.is_integer(c.type) or pa.types.is_floating(c.type)]
    if any(column.null_count for column in numbers):
        raise ValueError("missing values")
    yield from _subsets([column.to_numpy() for column in numbers], most_left_out)


def _binary_words(path: Path, key: str, most_left_out: int) -> Clouds:
    """Read as the program of word2vec that reads its own files: letters up to a blank, then the numbers."""
    with path.open("rb") as file:
        count, dim = map(int, file.readline().split())
        rows = []
        for _ in range(count):
            while file.read(1) not in (b" ", b""):
                pass
            rows.append(np.frombuffer(file.read(4 * dim), "<f4"))
    yield np.stack(rows)


def _hdf5(path: Path, key: str, most_left_out: int) -> Clouds:
    with h5py.File(path, "r") as file:
        yield file[key][...]


def _zarr(path: Path, key: str, most_left_out: int) -> Clouds:
    found = zarr.open(str(path), mode="r")
    yield np.asarray((found[key] if key else found)[...])


def _faiss(path: Path, key: str, most_left_out: int) -> Clouds:
    index = faiss.read_index(str(path))
    inside = index.index if isinstance(index, faiss.IndexIDMap) else index
    yield inside.reconstruct_n(0, inside.ntotal)


def _lance(path: Path, key: str, most_left_out: int) -> Clouds:
    yield from _columns(lance.dataset(str(path)).to_table(), key, most_left_out)


def _saved(path: Path, key: str, most_left_out: int) -> Clouds:
    yield from _columns(datasets.load_from_disk(str(path)).data.table, key, most_left_out)


def _shards(path: Path, key: str, most_left_out: int) -> Clouds:
    yield np.concatenate([np.load(path / f"part_{i}.npy") for i in (9, 10, 11) if (path / f"part_{i}.npy").exists()])


def _partitions(path: Path, key: str, most_left_out: int) -> Clouds:
    parts = [next(_parquet(file, key, 0)) for file in sorted(path.rglob("*.parquet"))]
    yield np.concatenate(parts)


READERS: dict[str, Reader] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".csv": _text(","),
    ".tsv": _text("\t"),
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".csv.gz": _text(",", gzip.open),
    ".bin": _binary_words,
    ".h5": _hdf5,
    ".faiss": _faiss,
    ".zarr": _zarr,
    ".lance": _lance,
    ".saved": _saved,
    ".shards": _shards,
    ".partitions": _partitions,
}
