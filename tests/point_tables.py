"""Tables of points in every format, and what reading them has to give."""

import re

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.reference import isoscore_star

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")


ROWS, DIM = 60, 8


X = np.random.default_rng(7).normal(size=(ROWS, DIM)) * np.linspace(0.3, 2, DIM)


WHOLE = np.rint(X * 50).astype(int)


NAMES = [f"emb_{i}" for i in range(DIM)]


LETTERS = list("abcdefgh")


def frame(points=X, names=NAMES, **more):
    return pd.DataFrame(points, columns=names).assign(**more)


def save(path, table, index=True):
    """Write a frame in the format that the suffix names."""
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".arrow":
        data = pa.Table.from_pandas(table)
        with pa.ipc.new_file(str(path), data.schema) as writer:
            writer.write_table(data, max_chunksize=16)
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=index)
    return path


def text(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def lines(points, separator=",", before=()):
    cells = [list(map(repr, map(float, x))) for x in points]
    rows = [[word, *row] for word, row in zip(before, cells, strict=True)] if len(before) else cells
    return "".join(separator.join(row) + "\n" for row in rows)


def text_lists(points=X):
    return [str(list(map(float, x))) for x in points]


def holds(source, points, *notes):
    """Check the points, their score by Algorithm 1, and that there are these notes and no others."""
    found = source.whole()
    np.testing.assert_array_equal(found, points)
    # 1e-12 is what every backend is held to.
    assert iso.isoscore(found) == pytest.approx(isoscore_star(points), abs=1e-12)
    assert len(source.notes) == len(notes), source.notes
    for note, given in zip(notes, source.notes, strict=True):
        assert re.search(note, given)


TABLES = [".csv", ".tsv", ".parquet", ".arrow"]
