"""Files of every format, written by the libraries that people write them with: what is damaged afterwards."""

from __future__ import annotations

import contextlib
import gzip
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import faiss
import h5py
import lance
import numpy as np
import pandas as pd
import pyarrow as pa
import safetensors.numpy
import torch
import zarr
from fuzz.damage import Content
from pyarrow import feather, ipc, parquet

Generator = np.random.Generator
Writer = Callable[[Generator, np.ndarray], Content]


def cloud(rng: Generator) -> np.ndarray:
    """Draw points that fill no format's smallest block, in float64 or float32."""
    m, d = int(rng.integers(5, 60)), int(rng.integers(2, 9))
    X = rng.normal(size=(m, d)) * np.geomspace(1, rng.choice([1, 10]), d) + rng.choice([0, 3])
    return X.astype(rng.choice([np.float32, np.float64]))


def _npy(rng: Generator, X: np.ndarray) -> bytes:
    file = io.BytesIO()
    X = np.asfortranarray(X) if rng.random() < 0.3 else X
    X = X.reshape(1, *X.shape) if rng.random() < 0.2 else X
    np.lib.format.write_array(file, X, version=[(1, 0), (2, 0), (3, 0)][rng.integers(3)])
    return file.getvalue()


def _npz(rng: Generator, X: np.ndarray) -> bytes:
    file = io.BytesIO()
    arrays = {"points": X} | ({"ids": np.arange(len(X))} if rng.random() < 0.5 else {})
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(file, **arrays)
    return file.getvalue()


def _safetensors(rng: Generator, X: np.ndarray) -> bytes:
    arrays = {"points": X} | ({"ids": np.arange(len(X))} if rng.random() < 0.5 else {})
    return bytes(safetensors.numpy.save(arrays))


def _torch(rng: Generator, X: np.ndarray) -> bytes:
    points = torch.tensor(X)
    ways: list[Any] = [
        points,
        {"points": points, "epoch": 3},
        [points],
        {"label": "P1", "representations": {33: points}},
        {f"item_{i}": x.clone() for i, x in enumerate(points)},
        points.T.contiguous().T,
    ]
    file = io.BytesIO()
    torch.save(ways[rng.integers(len(ways))], file, _use_new_zipfile_serialization=bool(rng.random() < 0.7))
    return file.getvalue()


def _frame(rng: Generator, X: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])


def _text(separator: str) -> Writer:
    def write(rng: Generator, X: np.ndarray) -> bytes:
        if rng.random() < 0.3:
            return "".join(separator.join(map(repr, map(float, x))) + "\n" for x in X).encode()
        return _frame(rng, X).to_csv(sep=separator, index=False).encode()

    return write


def _table(rng: Generator, X: np.ndarray) -> pa.Table:
    kind = rng.integers(3)
    if kind == 0:
        return pa.table({f"x{i}": pa.array(column) for i, column in enumerate(X.T)})
    flat = pa.array(X.reshape(-1))
    lists = (
        pa.FixedSizeListArray.from_arrays(flat, X.shape[1])
        if kind == 1
        else pa.ListArray.from_arrays(pa.array(np.arange(len(X) + 1, dtype=np.int32) * X.shape[1]), flat)
    )
    return pa.table({"points": lists, "id": pa.array(np.arange(len(X)))})


def _parquet(rng: Generator, X: np.ndarray) -> bytes:
    file = io.BytesIO()
    packing = ["none", "snappy", "gzip", "zstd"][rng.integers(4)]
    parquet.write_table(
        _table(rng, X),
        file,
        compression=packing,
        use_dictionary=bool(rng.random() < 0.5),
        row_group_size=int(rng.choice([7, 1000])),
    )
    return file.getvalue()


def _arrow(rng: Generator, X: np.ndarray) -> bytes:
    file, table = io.BytesIO(), _table(rng, X)
    if rng.random() < 0.2:
        feather.write_feather(table, file)
        return file.getvalue()
    opener = ipc.new_stream if rng.random() < 0.4 else ipc.new_file
    with opener(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=int(rng.choice([7, 1000])))
    return file.getvalue()


def _zipped_text(rng: Generator, X: np.ndarray) -> bytes:
    return gzip.compress(_frame(rng, X).to_csv(index=False).encode())


def _binary_words(rng: Generator, X: np.ndarray) -> bytes:
    """Write word2vec's binary format, with the ends of lines that its program writes, or without, as gensim's."""
    end = b"\n" if rng.random() < 0.5 else b""
    body = b"".join(f"word{i}".encode() + b" " + x.astype("<f4").tobytes() + end for i, x in enumerate(X))
    return f"{len(X)} {X.shape[1]}\n".encode() + body


def _hdf5(rng: Generator, X: np.ndarray) -> bytes:
    file = io.BytesIO()
    ways: list[dict[str, Any]] = [
        {},
        {"chunks": (min(7, len(X)), X.shape[1]), "compression": "gzip", "fletcher32": bool(rng.random() < 0.5)},
        {"chunks": True, "shuffle": True, "compression": "lzf"},
    ]
    with h5py.File(file, "w") as made:
        made.create_dataset("model/points" if rng.random() < 0.5 else "points", data=X, **ways[rng.integers(len(ways))])
        if rng.random() < 0.5:
            made["ids"] = np.arange(len(X))
    return file.getvalue()


def _faiss(rng: Generator, X: np.ndarray) -> bytes:
    d, points = X.shape[1], np.ascontiguousarray(X, np.float32)
    inside = [faiss.IndexFlatL2(d), faiss.IndexFlatIP(d), faiss.IndexHNSWFlat(d, 4)][rng.integers(3)]
    index = faiss.IndexIDMap2(inside) if rng.random() < 0.3 else inside
    if index is inside:
        index.add(points)
    else:
        index.add_with_ids(points, np.arange(len(X)) + 5)
    return bytes(faiss.serialize_index(index))


def _folder(write: Callable[[Generator, np.ndarray, Path], object]) -> Writer:
    """Give the files of a folder that is written, by their paths in it."""

    def written(rng: Generator, X: np.ndarray) -> Content:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = Path(folder, "x")
            write(rng, X, place)
            return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}

    return written


def _zarr(rng: Generator, X: np.ndarray, place: Path) -> None:
    version = int(rng.choice([2, 3]))
    if rng.random() < 0.4:
        zarr.save_array(str(place), X, zarr_format=version)
        return
    group = zarr.open_group(str(place), mode="w", zarr_format=version)
    chunks = (min(int(rng.choice([7, 100])), len(X)), X.shape[1])
    made = group.create_array("points", shape=X.shape, dtype=X.dtype, chunks=chunks)
    made[...] = X
    if rng.random() < 0.5:
        group.create_array("ids", shape=len(X), dtype="i8")[...] = np.arange(len(X))


def _lance(rng: Generator, X: np.ndarray, place: Path) -> None:
    lance.write_dataset(_table(rng, X), str(place), max_rows_per_file=int(rng.choice([20, 1000])))


def _saved(rng: Generator, X: np.ndarray, place: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        data = datasets.Dataset.from_dict({"points": X.tolist(), "id": list(range(len(X)))})
        data.save_to_disk(str(place), num_shards=int(rng.choice([1, 2])))


def _shards(rng: Generator, X: np.ndarray, place: Path) -> None:
    place.mkdir()
    for i, part in enumerate(np.array_split(X, min(len(X), 3))):
        np.save(place / f"part_{i + 9}.npy", part)


def _partitions(rng: Generator, X: np.ndarray, place: Path) -> None:
    for i, part in enumerate(np.array_split(X, 2)):
        (place / f"part={i}").mkdir(parents=True)
        table = pa.table({"points": pa.array(part.tolist()), "id": np.arange(len(part))})
        parquet.write_table(table, place / f"part={i}" / "0.parquet", row_group_size=10)


WRITERS: dict[str, Writer] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".csv": _text(","),
    ".tsv": _text("\t"),
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".csv.gz": _zipped_text,
    ".bin": _binary_words,
    ".h5": _hdf5,
    ".faiss": _faiss,
    ".zarr": _folder(_zarr),
    ".lance": _folder(_lance),
    ".saved": _folder(_saved),
    ".shards": _folder(_shards),
    ".partitions": _folder(_partitions),
}
"""Of a folder without a suffix of its own the suffix says only what is in it."""
