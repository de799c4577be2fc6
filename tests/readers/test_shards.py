"""Folders, patterns and partitions: files that together are one array, against NumPy on the same points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from point_files import FORMATS, cloud, save

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, StreamedCloud, is_place, open_array, open_clouds

SHARDS = 12
"""Enough for shard 10, which alphabetically comes before shard 2."""


def write_shards(folder: Path, suffix: str = ".npy", rows: int = 25) -> np.ndarray:
    X = cloud(SHARDS * rows)
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(np.split(X, SHARDS)):
        save(str(folder / f"img_emb_{i}{suffix}"), part)
    return X


def read(path: str | Path, **arguments: object) -> np.ndarray:
    return np.concatenate(list(open_array(path, **arguments).blocks()))


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_and_a_pattern_are_one_array_in_natural_order(tmp_path: Path, name: str) -> None:
    X = write_shards(tmp_path / "shards", Path(name).suffix)
    for place in (tmp_path / "shards", tmp_path / "shards" / f"img_emb_*{Path(name).suffix}"):
        source = open_array(place)
        np.testing.assert_array_equal(read(place), X)
        np.testing.assert_array_equal(source.whole(), X)
        assert source.shape[-1] == X.shape[1]
        assert source.shape[0] in (len(X), None)
        assert any(
            f"took 12 files, '{'' if place.is_dir() else f'{tmp_path}/shards/'}img_emb_0" in n for n in source.notes
        )


def test_what_is_no_shard_is_left_out_and_said(tmp_path: Path) -> None:
    X = write_shards(tmp_path)
    for name in ("_SUCCESS", ".part.npy.crc", "_old.npy", "stats.json"):
        (tmp_path / name).write_bytes(b"x")
    source = open_array(tmp_path)
    np.testing.assert_array_equal(source.whole(), X)
    assert source.notes[1] == "left out 'stats.json'"


def test_two_stars_reach_into_folders(tmp_path: Path) -> None:
    for i, folder in enumerate(("b2", "b10")):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", np.full((3, 2), i))
    np.testing.assert_array_equal(read(tmp_path / "**" / "*.npy")[:, 0], [0, 0, 0, 1, 1, 1])
    with pytest.raises(SelectionError, match=r"is a folder of folders, 'b10', 'b2'.*'.*/\*\*/\*\.npy'"):
        open_array(tmp_path)


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a[1].npy", np.ones((4, 2)))
    np.save(tmp_path / "a1.npy", np.ones((7, 2)))
    assert open_array(tmp_path / "a[1].npy").shape == (4, 2)


def test_shards_of_one_point_or_none_are_joined(tmp_path: Path) -> None:
    X = cloud(40)
    for i, x in enumerate(X):
        np.save(tmp_path / f"{i}.npy", x[None])
    np.save(tmp_path / "0a.npy", np.empty((0, X.shape[1])))
    assert [len(block) for block in open_array(tmp_path).blocks()] == [40]
    np.testing.assert_array_equal(read(tmp_path), X)


def test_an_empty_table_of_lists_does_not_know_their_length(tmp_path: Path) -> None:
    X = cloud(20)
    frame = pd.DataFrame({"embedding": list(X)})
    frame[:0].to_parquet(tmp_path / "0.parquet", schema=__import__("pyarrow").Schema.from_pandas(frame))
    frame.to_parquet(tmp_path / "1.parquet")
    assert open_array(tmp_path).shape == (20, X.shape[1])
    np.testing.assert_array_equal(read(tmp_path), X)


def other_width(folder: Path) -> None:
    np.save(folder / "img_emb_3.npy", np.zeros((4, 9)))


def other_axes(folder: Path) -> None:
    np.save(folder / "mask.npy", np.zeros(4))


def other_format(folder: Path) -> None:
    (folder / "notes.txt").write_text("words\n")


def cut(folder: Path) -> None:
    content = (folder / "img_emb_7.npy").read_bytes()
    (folder / "img_emb_7.npy").write_bytes(content[:-3])


WRONG: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "width": (other_width, FileContentError, r"img_emb_3\.npy: has shape \(4, 9\), .*img_emb_0\.npy \(25, 5\)"),
    "axes": (other_axes, FileContentError, r"mask\.npy: has shape \(4,\), .*\(25, 5\): shards of one array"),
    "format": (other_format, SelectionError, r"several formats \(12 \.npy, 1 \.txt\); give a pattern.*/\*\.npy'"),
    "cut": (cut, FileContentError, r"img_emb_7\.npy: .*promises shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_shard_that_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    write_shards(tmp_path)
    change, kind, message = WRONG[case]
    change(tmp_path)
    with pytest.raises(kind, match=message) as found:
        open_array(tmp_path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("columns", [["x0", "x1", "x2", "y3"], ["x1", "x0", "x2", "x3"]])
def test_columns_that_differ_are_refused(tmp_path: Path, columns: list[str]) -> None:
    pd.DataFrame(cloud(9, 4), columns=[f"x{i}" for i in range(4)]).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(cloud(9, 4), columns=columns).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(FileContentError, match=r"b\.csv: its columns are .*those of .*a\.csv 'x0', 'x1'"):
        open_array(tmp_path)
    if "y3" not in columns:
        names = ["x0", "x1", "x2", "x3"]
        assert open_array(tmp_path, columns=names).columns == tuple(names)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_value_that_is_not_finite_is_found_in_its_own_file(tmp_path: Path, suffix: str) -> None:
    X = write_shards(tmp_path, suffix)
    part = np.split(X, SHARDS)[10].copy()
    part[3, 1] = np.inf
    save(str(tmp_path / f"img_emb_10{suffix}"), part)
    streamed = StreamedCloud(X.shape[1], np.random.default_rng(0))
    with pytest.raises(iso.InvalidValueError, match=rf"img_emb_10\{suffix}.*: .*first in row 3 \(counted"):
        streamed.take(open_array(tmp_path))


def test_a_cell_that_is_no_number_is_found_in_its_own_file(tmp_path: Path) -> None:
    write_shards(tmp_path, ".csv")
    lines = (tmp_path / "img_emb_10.csv").read_text().splitlines()
    lines[5] = lines[5].replace(".", "..", 1)
    (tmp_path / "img_emb_10.csv").write_text("\n".join(lines))
    with pytest.raises(FileContentError, match=r"img_emb_10\.csv: row 4 \(counted from 0, line 6\)"):
        read(tmp_path)


def measured(files: list[str | Path], **options: str) -> iso.Measurement:
    """Measure as the command does."""
    clouds = open_clouds(files, **options)
    streamed = StreamedCloud(int(clouds[0].source.shape[-1] or 0), np.random.default_rng(0))
    for one in clouds:
        streamed.take(one.source, None if one.mask is None else one.mask.reshape(-1), groups=one.groups)
    return streamed.measurement()


def agrees(found: iso.Measurement, wanted: iso.Measurement) -> None:
    # Sums of some hundred float64 numbers in another order: a thousand roundings of 1e-16 at most.
    assert found.count == wanted.count
    assert found.group_count == wanted.group_count
    for name in ("score", "unbiased_score", "standard_error"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-12)


def test_sequences_count_on_from_shard_to_shard(tmp_path: Path) -> None:
    X = np.random.default_rng(1).normal(size=(33, 4, 6))
    for i, part in enumerate(np.split(X, [5, 12, 20])):
        np.save(tmp_path / f"states_{i}.npy", part)
    agrees(measured([tmp_path], groups="auto"), iso.measure(X))


def test_a_mask_and_labels_lie_in_shards_beside_the_points(tmp_path: Path) -> None:
    X = write_shards(tmp_path / "points")
    mask, labels = np.arange(len(X)) % 5 != 0, np.arange(len(X)) // 3
    for name, values in {"mask": mask, "labels": labels}.items():
        (tmp_path / name).mkdir()
        for i, part in enumerate(np.split(values, SHARDS)):
            np.save(tmp_path / name / f"{name}_{i}.npy", part)
    found = measured([tmp_path / "points"], mask=str(tmp_path / "mask"), groups=str(tmp_path / "labels" / "*.npy"))
    agrees(found, iso.measure(X, mask=mask, groups=labels))
    np.save(tmp_path / "mask" / "mask_4.npy", np.ones(26))
    np.save(tmp_path / "mask" / "mask_5.npy", np.ones(24))
    with pytest.raises(FileContentError, match=r"mask_4\.npy: the mask of .*img_emb_4\.npy has 26 rows, .* has 25"):
        measured([tmp_path / "points"], mask=str(tmp_path / "mask"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_labels_are_a_column_or_an_array_of_each_shard(tmp_path: Path, suffix: str) -> None:
    X, labels = cloud(300), np.arange(300) // 4
    for i, (part, own) in enumerate(zip(np.split(X, SHARDS), np.split(labels, SHARDS), strict=True)):
        path = tmp_path / f"{i}{suffix}"
        frame = pd.DataFrame(part, columns=[f"x{j}" for j in range(X.shape[1])]).assign(sentence=own)
        if suffix == ".npz":
            np.savez(path, x=part, sentence=own)
        elif suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
    agrees(measured([tmp_path], groups="sentence"), iso.measure(X, groups=labels))


def test_a_pattern_that_matches_several_arrays_is_several_layers(tmp_path: Path) -> None:
    a, b = cloud(30), cloud(30, seed=1)
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", layer_1=a[10 * i : 10 * i + 10], layer_2=b[10 * i : 10 * i + 10])
    clouds = open_clouds([tmp_path], ["layer_*"])
    assert [one.label for one in clouds] == ["layer_1", "layer_2"]
    np.testing.assert_array_equal(clouds[1].source.whole(), b)


def partitioned(folder: Path, X: np.ndarray) -> pd.DataFrame:
    """Write the rows into folders of two keys, of which one has blanks and slashes."""
    frame = pd.DataFrame({"embedding": list(X), "id": np.arange(len(X))})
    frame["year"], frame["kind"] = 2008 + np.arange(len(X)) // 50, np.array(["a b", "c/d"])[np.arange(len(X)) // 25 % 2]
    for (year, kind), part in frame.groupby(["year", "kind"]):
        place = folder / f"year={year}" / f"kind={quote(str(kind), safe='')}"
        place.mkdir(parents=True)
        part.drop(columns=["year", "kind"]).to_parquet(place / "part-0.parquet")
    return frame


def test_a_partitioned_folder_has_its_keys_as_columns(tmp_path: Path) -> None:
    X = cloud(200)
    frame = partitioned(tmp_path, X)
    (tmp_path / "_SUCCESS").touch()
    np.testing.assert_array_equal(read(tmp_path), X)
    for name in ("year", "kind"):
        agrees(measured([tmp_path], groups=name), iso.measure(X, groups=frame[name].to_numpy(str)))
    np.testing.assert_array_equal(read(tmp_path, columns=["year", "id"]), frame[["year", "id"]])
    with pytest.raises(
        SelectionError, match=r"no single column 'month'; its columns are 'embedding', 'id', 'kind', 'year'"
    ):
        measured([tmp_path], groups="month")


def test_a_partition_that_pyarrow_wrote_is_read(tmp_path: Path) -> None:
    pa, dataset = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.dataset")
    X = cloud(60)
    table = pa.table({"embedding": list(X), "layer": np.arange(60) // 20})
    for form in ("parquet", "feather"):
        dataset.write_dataset(
            table,
            tmp_path / form,
            format=form,
            partitioning=dataset.partitioning(pa.schema([("layer", pa.int64())]), flavor="hive"),
            max_rows_per_file=7,
            max_rows_per_group=7,
        )
        assert np.array_equal(read(tmp_path / form), X)
        agrees(measured([tmp_path / form], groups="layer"), iso.measure(X, groups=np.arange(60) // 20))


def test_folders_of_different_keys_are_refused(tmp_path: Path) -> None:
    for key in ("year=1", "month=2"):
        (tmp_path / key).mkdir()
        pd.DataFrame({"a": [0.5], "b": [0.5]}).to_parquet(tmp_path / key / "x.parquet")
    with pytest.raises(SelectionError, match="partitions of different kinds"):
        open_array(tmp_path)


def test_a_column_comes_before_a_folder_without_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    X, labels = cloud(40), np.arange(40) // 4
    np.savez("x.npz", x=X, sentence=labels)
    Path("sentence").mkdir()
    assert not is_place("sentence")
    agrees(measured(["x.npz"], groups="sentence", keys=["x"]), iso.measure(X, groups=labels))


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_reading_goes_on_at_the_end_of_any_block(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    from isoscore_star.readers import _source, open_array

    points = rng.normal(size=(40_000, 600 if suffix == "npy" else 4)).astype(np.float32)
    for number, part in enumerate(np.split(points, [9000, 9100, 26_000])):
        if suffix == "npy":
            np.save(tmp_path / f"{number}.npy", part)
        else:
            np.savetxt(tmp_path / f"{number}.csv", part, delimiter=",")
    source = open_array(tmp_path)
    blocks = list(source.blocks())
    for first in range(len(blocks) + 1):
        skip = sum(map(len, blocks[:first]))
        again = list(_source.blocks_after(open_array(tmp_path), skip))
        assert [len(block) for block in again] == [len(block) for block in blocks[first:]]
        assert all(np.array_equal(ours, its) for ours, its in zip(again, blocks[first:], strict=True))
