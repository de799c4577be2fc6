"""Zarr and HDF5: arrays in chunks, against NumPy on the same points."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_files import cloud

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, _chunked, _memory, _source, open_array, open_clouds

zarr = pytest.importorskip("zarr")
h5py = pytest.importorskip("h5py")

Arrays = dict[str, np.ndarray]


def write_zarr(path: Path, arrays: Arrays, chunks: tuple[int, ...] | None = None, version: int = 3) -> None:
    if set(arrays) == {""}:
        zarr.save_array(str(path), arrays[""], zarr_format=version)
        return
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, array in arrays.items():
        with warnings.catch_warnings():  # that words have no specification yet
            warnings.simplefilter("ignore")
            made = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks or array.shape)
        made[...] = array


def write_hdf5(path: Path, arrays: Arrays, chunks: tuple[int, ...] | None = None, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=chunks, **options)


WRITERS: dict[str, Callable[..., None]] = {
    "x.zarr": write_zarr,
    "v2.zarr": lambda path, arrays, chunks=None: write_zarr(path, arrays, chunks, 2),
    "no_suffix": write_zarr,
    "x.h5": write_hdf5,
    "x.hdf5": lambda path, arrays, chunks=None: write_hdf5(path, arrays, chunks, compression="gzip"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("chunks", [None, (7, 5), (64, 2), (10_000, 5)])
def test_arrays_in_chunks_are_read_part_by_part(
    tmp_path: Path, name: str, chunks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_source, "_BLOCK_VALUES", 1)
    X = cloud(9000)
    chunks = None if chunks is None else (min(chunks[0], 9000), chunks[1])
    WRITERS[name](tmp_path / name, {"points": X}, chunks)
    source = open_array(tmp_path / name)
    assert source.shape == X.shape
    assert source.name == f"{tmp_path / name}:points"
    blocks = list(source.blocks())
    assert len(blocks) == 2
    np.testing.assert_array_equal(np.concatenate(blocks), X)
    np.testing.assert_array_equal(source.whole(), X)


@pytest.mark.parametrize("name", WRITERS)
def test_arrays_are_chosen_by_their_paths(tmp_path: Path, name: str) -> None:
    a, b = cloud(30), np.random.default_rng(1).normal(size=(12, 4, 6)).astype(np.float32)
    arrays = {"model/layer_1": a, "model/layer_2": a + 1, "states": b, "ids": np.arange(30)}
    WRITERS[name](tmp_path / name, arrays)
    path = tmp_path / name
    np.testing.assert_array_equal(open_array(path, "model/layer_1").whole(), a)
    np.testing.assert_array_equal(np.concatenate(list(open_array(path, "states").blocks())), b.reshape(-1, 6))
    assert [one.label for one in open_clouds([path], ["model/*"])] == ["model/layer_1", "model/layer_2"]
    found = iso.measure(a, groups=np.arange(30) // 3)
    assert found.group_count == 10
    with pytest.raises(SelectionError, match=r"several arrays, choose one by its key: .*model/layer_1 \(30, 5\)"):
        open_array(path)
    with pytest.raises(SelectionError, match=r"has no array 'c'; it holds "):
        open_array(path, "c")


@pytest.mark.parametrize("name", WRITERS)
def test_sequences_masks_and_labels_lie_side_by_side(tmp_path: Path, name: str) -> None:
    X = np.random.default_rng(2).normal(size=(40, 3, 6))
    mask, words = np.arange(120).reshape(40, 3) % 4 != 0, np.array([f"s{i // 2}" for i in range(40)])
    arrays = {"x": X, "mask": mask.astype(np.int8), "flat": X[:, 0], "sentence": words}
    if name.endswith(("5",)):
        with h5py.File(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array.astype(object) if key == "sentence" else array)
    else:
        WRITERS[name](tmp_path / name, arrays)
    wanted = iso.measure(X, mask=mask)
    (found,) = open_clouds([tmp_path / name], ["x"], "mask", groups="auto")
    np.testing.assert_array_equal(found.mask, mask)
    assert found.groups is not None
    assert found.groups.count == wanted.group_count
    (flat,) = open_clouds([tmp_path / name], ["flat"], groups="sentence")
    assert flat.labels is not None
    np.testing.assert_array_equal(flat.labels, words)


def test_an_array_without_a_group_has_no_key(tmp_path: Path) -> None:
    for version in (2, 3):
        write_zarr(tmp_path / f"{version}.zarr", {"": cloud(20)}, version=version)
        np.testing.assert_array_equal(open_array(tmp_path / f"{version}.zarr").whole(), cloud(20))
        with pytest.raises(SelectionError, match="has no array 'a'; it holds one array without a name"):
            open_array(tmp_path / f"{version}.zarr", "a")


def test_shards_may_be_folders(tmp_path: Path) -> None:
    X = cloud(30)
    for i in range(3):
        write_zarr(tmp_path / f"part_{i}.zarr", {"": X[10 * i : 10 * i + 10]})
    np.testing.assert_array_equal(open_array(tmp_path).whole(), X)
    np.testing.assert_array_equal(open_array(tmp_path / "part_*.zarr").whole(), X)


@pytest.mark.parametrize("shape", [(20_000, 3), (50, 400, 3)])
def test_a_chunk_longer_than_a_block_is_unpacked_once(shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).normal(size=shape)
    reads = []

    def read(index: Any) -> np.ndarray:
        reads.append(index)
        return X[index]

    through = _chunked.keeping_chunks(read, shape, shape[0] - 5, 8)
    parts = (
        [(slice(start, start + 7),) for start in range(0, shape[0], 7)]
        if len(shape) == 2
        else [(i,) for i in range(50)]
    )
    np.testing.assert_array_equal(np.concatenate([through(index) for index in parts]).reshape(shape), X)
    assert len(reads) <= 3


def hole_in_zarr(path: Path) -> None:
    write_zarr(path, {"a": cloud(30)}, (10, 5))
    (path / "a" / "c" / "1" / "0").unlink()


def hole_in_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (30, 5), chunks=(10, 5))[:10] = 1.0


def never_written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (30, 5), dtype="f4")


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((3, 5), dtype="f4")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "a", shape=(3, 5))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("a", layout)


def records(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(3, [("x", float), ("y", float)])


def cut_hdf5(path: Path) -> None:
    write_hdf5(path, {"a": cloud(300)}, (10, 5))
    path.write_bytes(path.read_bytes()[:-100])


def cut_zarr(path: Path) -> None:
    write_zarr(path, {"a": cloud(300)}, (100, 5))
    chunk = path / "a" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-40])


def no_metadata(path: Path) -> None:
    write_zarr(path, {"a": cloud(30)})
    (path / "zarr.json").write_text("{")


DAMAGED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a hole in zarr": ("x.zarr", hole_in_zarr, r":a: 1 of its 3 chunks are not there; they would be read as 0\.0"),
    "a hole in hdf5": ("x.h5", hole_in_hdf5, r":a: .*2 of its 3 chunks were never written; .* as 0"),
    "nothing written": ("x.h5", never_written, ":a: .*its values were never written"),
    "another file": ("x.h5", virtual, ":a: .*its values are in other files"),
    "records": ("x.h5", records, ":a: .*which are no numbers"),
    "cut hdf5": ("x.h5", cut_hdf5, "truncated"),
    "cut zarr": ("x.zarr", cut_zarr, ":a: cannot be read as .zarr"),
    "metadata": ("x.zarr", no_metadata, "cannot be read as .zarr"),
    "words": ("x.h5", lambda path: path.write_text("words"), "cannot be read as .h5"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_one_line_that_names_the_place(tmp_path: Path, case: str) -> None:
    name, write, message = DAMAGED[case]
    write(tmp_path / name)
    with pytest.raises(FileContentError, match=f"{name}.*{message}") as found:
        open_array(tmp_path / name).whole()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["x.zarr", "x.h5"])
def test_a_chunk_that_does_not_fit_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path / name, {"a": cloud(9000)}, (9000, 5))
    monkeypatch.setattr(_memory, "free_memory", lambda: 300_000)
    with pytest.raises(iso.InvalidValueError, match=r"a chunk of it, unpacked, takes 0\.0 GB"):
        open_array(tmp_path / name)
