"""Files of every format, written by the libraries that people write them with: what is damaged afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import safetensors.numpy
import torch
from pyarrow import feather, ipc, parquet

Generator = np.random.Generator
Writer = Callable[[Generator, np.ndarray], bytes]


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


WRITERS: dict[str, Writer] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".csv": _text(","),
    ".tsv": _text("\t"),
    ".parquet": _parquet,
    ".arrow": _arrow,
}
