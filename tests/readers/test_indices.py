"""Indices of faiss and tables of Lance, against NumPy on the same points."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_files import cloud

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, StreamedCloud, open_array, open_clouds

X = cloud(400, 8).astype(np.float32)


def faiss() -> Any:
    return pytest.importorskip("faiss")


def added(index: Any, points: np.ndarray = X) -> Any:
    if not index.is_trained:
        index.train(points)
    index.add(points)
    return index


EXACT: dict[str, Callable[[], Any]] = {
    "flat": lambda: added(faiss().IndexFlatL2(8)),
    "inner product": lambda: added(faiss().IndexFlatIP(8)),
    "graph": lambda: added(faiss().IndexHNSWFlat(8, 4)),
    "lists": lambda: added(faiss().index_factory(8, "IVF4,Flat")),
}


@pytest.mark.parametrize("kind", EXACT)
def test_vectors_of_an_index_come_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x.faiss" if kind == "flat" else "x.index")
    faiss().write_index(EXACT[kind](), str(path))
    source = open_array(path)
    assert (source.shape, source.notes) == (X.shape, ())
    np.testing.assert_array_equal(source.whole(), X)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks())), X)
    with pytest.raises(SelectionError, match="has no array 'a'"):
        open_array(path, "a")


def test_numbers_of_ones_own_keep_the_order(tmp_path: Path) -> None:
    index = faiss().IndexIDMap2(faiss().IndexFlatL2(8))
    index.add_with_ids(X, np.arange(400)[::-1].copy() * 7)
    faiss().write_index(index, str(tmp_path / "x.faiss"))
    np.testing.assert_array_equal(open_array(tmp_path / "x.faiss").whole(), X)


def test_vectors_from_codes_are_said_to_be_approximations(tmp_path: Path) -> None:
    index = added(faiss().index_factory(8, "SQ8"))
    faiss().write_index(index, str(tmp_path / "x.faiss"))
    source = open_array(tmp_path / "x.faiss")
    np.testing.assert_array_equal(source.whole(), index.reconstruct_n(0, 400))
    assert "approximations" in source.notes[0]
    # A byte has 256 steps; a score hardly moves by one of them.
    assert iso.isoscore(source.whole()) == pytest.approx(iso.isoscore(X), abs=0.01)


def own_numbers() -> Any:
    index = faiss().index_factory(8, "IVF4,Flat")
    index.train(X)
    index.add_with_ids(X, np.arange(400) + 5)
    return index


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "hashes": (
        lambda: added(faiss().IndexIVFSpectralHash(faiss().IndexFlatL2(8), 8, 4, 8, 4.0)),
        "cannot be had back from IndexIVFSpectralHash, which keeps only what it searches by",
    ),
    "gaps": (own_numbers, r"its vectors have numbers of their own, not 0 to 399"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_come_back_is_refused(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    faiss().write_index(make(), str(tmp_path / "x.faiss"))
    with pytest.raises(FileContentError, match=message):
        open_array(tmp_path / "x.faiss").whole()


@pytest.mark.parametrize(
    ("content", "message"), [(b"words, and more words", "is no index of faiss"), (b"IxF2" + bytes(40), "x.faiss: ")]
)
def test_a_damaged_index_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    faiss()
    (tmp_path / "x.faiss").write_bytes(content)
    with pytest.raises(FileContentError, match=message) as found:
        open_array(tmp_path / "x.faiss").whole()
    assert "\n" not in str(found.value)


def write_lance(path: Path) -> np.ndarray:
    lance, pa = pytest.importorskip("lance"), pytest.importorskip("pyarrow")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 8)
    table = pa.table({"vector": vectors, "id": np.arange(400), "text": [f"t{i // 4}" for i in range(400)]})
    lance.write_dataset(table.slice(0, 300), str(path), max_rows_per_file=70)
    lance.write_dataset(table.slice(300), str(path), mode="append")
    return np.array([f"t{i // 4}" for i in range(400)])


def test_a_table_of_lance_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = write_lance(tmp_path / "x.lance")
    monkeypatch.setattr(importlib.import_module("isoscore_star.readers._lance"), "_HEAD_ROWS", 150)
    source = open_array(tmp_path / "x.lance")
    assert source.shape == X.shape
    np.testing.assert_array_equal(source.whole(), X)
    (one,) = open_clouds([tmp_path / "x.lance"], ["vector"], groups="text")
    streamed = StreamedCloud(8, np.random.default_rng(0))
    streamed.take(one.source, groups=one.groups)
    # Sums of some hundred numbers in another order; products are float64 for fewer than 128 dimensions.
    assert streamed.measurement().unbiased_score == pytest.approx(
        iso.measure(X, groups=labels).unbiased_score, abs=1e-12
    )


def test_a_table_of_lance_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    write_lance(tmp_path / "x.lance")
    next((tmp_path / "x.lance" / "data").iterdir()).unlink()
    with pytest.raises(FileContentError, match=r"x\.lance: cannot be read as \.lance") as found:
        open_array(tmp_path / "x.lance").whole()
    assert "\n" not in str(found.value)
