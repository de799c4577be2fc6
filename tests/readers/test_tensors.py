"""Columns whose cells hold several points: tensors, and lists of lists, against NumPy on the same points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.readers import FileContentError, StreamedCloud, open_array, open_clouds

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
ipc = pytest.importorskip("pyarrow.ipc")

ROWS, TOKENS, DIM = 40, 3, 5


def states() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 1, DIM)) + rng.normal(size=(ROWS, TOKENS, DIM)) * np.linspace(1, 3, DIM)


def tensor(X: np.ndarray, kind: Any = None) -> Any:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(X))


def lists(X: np.ndarray, kind: Any = None) -> Any:
    return pa.array(X.tolist(), kind or pa.list_(pa.list_(pa.float64())))


def array_2d(X: np.ndarray) -> Any:
    features = pytest.importorskip("datasets").features
    kind = features.Array2D((TOKENS, DIM), "float64")
    return pa.ExtensionArray.from_storage(kind(), lists(X, kind().storage_type))


COLUMNS: dict[str, Callable[[np.ndarray], Any]] = {
    "FixedShapeTensor": tensor,
    "lists": lists,
    "fixed lists": lambda X: lists(X, pa.list_(pa.list_(pa.float64(), DIM), TOKENS)),
    "large lists": lambda X: lists(X, pa.large_list(pa.large_list(pa.float64()))),
    "lists of fixed ones": lambda X: lists(X, pa.list_(pa.list_(pa.float64(), DIM))),
    "Array2D": array_2d,
}


def write(path: Path, table: Any) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=7)
    else:
        with ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    return path


def measured(path: Path, **options: str) -> iso.Measurement:
    clouds = open_clouds([path], **options)
    streamed = StreamedCloud(int(clouds[0].source.shape[-1] or 0), np.random.default_rng(0))
    streamed.take(clouds[0].source, groups=clouds[0].groups)
    return streamed.measurement()


def agrees(found: iso.Measurement, wanted: iso.Measurement) -> None:
    # The same numbers are summed in another order, some hundred terms in float64; scores lie in [0, 1].
    assert (found.count, found.group_count) == (wanted.count, wanted.group_count)
    for name in ("score", "unbiased_score", "standard_error"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-12)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_cell_is_a_sequence(tmp_path: Path, kind: str, suffix: str) -> None:
    X = states()
    path = write(tmp_path / f"x{suffix}", pa.table({"states": COLUMNS[kind](X), "id": np.arange(ROWS)}))
    source = open_array(path)
    assert source.shape[0] == ROWS
    assert source.shape[1] in (TOKENS, None)
    assert source.shape[2] == DIM
    np.testing.assert_array_equal(np.concatenate(list(source.blocks())), X.reshape(-1, DIM))
    np.testing.assert_array_equal(source.whole().reshape(X.shape), X)
    agrees(measured(path, groups="auto"), iso.measure(X))
    agrees(measured(path, groups="id"), iso.measure(X))


def test_sequences_of_any_length_are_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.normal(size=(rng.integers(1, 9), DIM)) for _ in range(ROWS)]
    labels = np.repeat(np.arange(ROWS), list(map(len, sequences)))
    table = pa.table({"states": pa.array([x.tolist() for x in sequences]), "text": [f"t{i // 2}" for i in range(ROWS)]})
    flat = np.concatenate(sequences)
    for place in (write(tmp_path / "x.parquet", table), tmp_path / "shards"):
        if place.name == "shards":
            place.mkdir()
            for i in range(4):
                write(place / f"{i}.arrow", table.slice(10 * i, 10))
        assert open_array(place).shape == (ROWS, None, DIM)
        agrees(measured(place, groups="auto"), iso.measure(flat, groups=labels))
        agrees(measured(place, groups="text"), iso.measure(flat, groups=labels // 2))


def ragged_vectors(rows: list[Any]) -> None:
    rows[17][1] = rows[17][1][:3]


def missing_number(rows: list[Any]) -> None:
    rows[17][1][2] = None


def missing_vector(rows: list[Any]) -> None:
    rows[17][1] = None


def missing_row(rows: list[Any]) -> None:
    rows[17] = None


DAMAGED: dict[str, tuple[Callable[[list[Any]], None], str]] = {
    "ragged": (ragged_vectors, "a list of 3 numbers, but the first has 5"),
    "number": (missing_number, "a missing value"),
    "vector": (missing_vector, "a missing value"),
    "row": (missing_row, "a missing value"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_cell_that_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    change, message = DAMAGED[case]
    rows = states().tolist()
    change(rows)
    path = write(tmp_path / "x.parquet", pa.table({"e": pa.array(rows, pa.list_(pa.list_(pa.float64())))}))
    with pytest.raises(FileContentError, match=rf"x\.parquet: row 17 .counted from 0., column 'e': {message}"):
        open_array(path).whole()


def test_tensors_that_are_no_points_are_refused(tmp_path: Path) -> None:
    turned = pa.fixed_shape_tensor(pa.float64(), [TOKENS, DIM], permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(states().reshape(-1)), TOKENS * DIM)
    path = write(tmp_path / "x.arrow", pa.table({"e": pa.ExtensionArray.from_storage(turned, storage)}))
    with pytest.raises(FileContentError, match="column 'e' holds"):
        open_array(path)


def test_images_are_tensors_of_three_axes(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(12, 2, 3, 4)).astype(np.float32)
    path = write(tmp_path / "x.parquet", pa.table({"e": tensor(X)}))
    assert open_array(path).shape == X.shape
    np.testing.assert_array_equal(open_array(path).whole(), X)
