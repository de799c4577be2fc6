"""Data sets of Hugging Face's `datasets`, saved and streamed, against NumPy on the same points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_files import cloud

import isoscore_star as iso
from isoscore_star.readers import FileContentError, SelectionError, StreamedCloud, open_array, open_clouds

datasets = pytest.importorskip("datasets")

X = cloud(60).astype(np.float32)
STATES = np.random.default_rng(0).normal(size=(60, 3, 4)).astype(np.float32)
FEATURES = datasets.Features(
    {
        "embedding": datasets.Sequence(datasets.Value("float32")),
        "label": datasets.Value("string"),
        "states": datasets.Array2D((3, 4), "float32"),
    }
)


@pytest.fixture(scope="module", autouse=True)
def _quietly() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def made(points: np.ndarray = X) -> Any:
    rows = {
        "embedding": points.tolist(),
        "label": [f"text {i // 3}" for i in range(len(points))],
        "states": STATES[: len(points)].tolist(),
    }
    return datasets.Dataset.from_dict(rows, features=FEATURES)


def read(path: Path, key: str | None = None) -> np.ndarray:
    return np.concatenate(list(open_array(path, key).blocks()))


def measured(path: Path | str, **options: Any) -> iso.Measurement:
    (one,) = open_clouds([path], **options)
    streamed = StreamedCloud(int(one.source.shape[-1] or 0), np.random.default_rng(0))
    streamed.take(one.source, groups=one.groups)
    return streamed.measurement()


@pytest.mark.parametrize("shards", [1, 4])
def test_a_saved_data_set_is_a_table(tmp_path: Path, shards: int) -> None:
    made().save_to_disk(str(tmp_path), num_shards=shards)
    np.testing.assert_array_equal(read(tmp_path, "embedding"), X)
    np.testing.assert_array_equal(open_array(tmp_path, "states").whole(), STATES)
    assert open_array(tmp_path, "states").shape == STATES.shape
    wanted = iso.measure(X, groups=np.arange(60) // 3)
    found = measured(tmp_path, keys=["embedding"], groups="label")
    # Sums of 60 numbers in another order: products are float64 for fewer than 128 dimensions.
    assert found.unbiased_score == pytest.approx(wanted.unbiased_score, abs=1e-12)
    assert found.group_count == 20
    assert measured(tmp_path, keys=["states"], groups="auto").unbiased_score == pytest.approx(
        iso.measure(STATES).unbiased_score, abs=1e-12
    )
    with pytest.raises(SelectionError, match="several arrays, choose one by its key: embedding"):
        open_array(tmp_path)


def test_rows_that_were_selected_are_those_that_were_saved(tmp_path: Path) -> None:
    made().shuffle(seed=1).select(range(20)).save_to_disk(str(tmp_path))
    order = np.array(datasets.load_from_disk(str(tmp_path))["embedding"], dtype=np.float32)
    np.testing.assert_array_equal(read(tmp_path, "embedding"), order)


def test_splits_are_chosen_by_key(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made(), "test": made(X[:9])}).save_to_disk(str(tmp_path))
    np.testing.assert_array_equal(read(tmp_path, "test/embedding"), X[:9])
    assert open_array(tmp_path, "test/embedding").name == f"{tmp_path}/test:embedding"
    assert measured(tmp_path, keys=["train/embedding"], groups="train/label").group_count == 20
    with pytest.raises(SelectionError, match=r"holds several splits; choose one .*: 'train', 'test'"):
        open_array(tmp_path)
    with pytest.raises(SelectionError, match="has no split 'embedding'; choose one"):
        open_array(tmp_path, "embedding")
    datasets.DatasetDict({"train": made()}).save_to_disk(str(tmp_path / "one"))
    np.testing.assert_array_equal(read(tmp_path / "one", "embedding"), X)


def test_a_file_that_was_cut_between_batches_is_refused(tmp_path: Path) -> None:
    made().save_to_disk(str(tmp_path), num_shards=3)
    file = tmp_path / "data-00001-of-00003.arrow"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(FileContentError, match=r"data-00001-of-00003\.arrow: lacks the mark that ends"):
        open_array(tmp_path, "embedding")
    file.unlink()
    with pytest.raises(FileContentError, match=r"data-00001-of-00003\.arrow"):
        open_array(tmp_path, "embedding")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Stand in for the Hub, from which the machine is cut off, by files of Parquet that are streamed."""
    made().to_parquet(tmp_path / "train.parquet")
    asked = []

    def load(name: str, config: str | None, streaming: bool) -> Any:
        asked.append((name, config))
        return real("parquet", data_files={"train": str(tmp_path / "train.parquet")}, streaming=streaming)

    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


@pytest.mark.parametrize(("name", "config"), [("owner/name", None), ("name", None), ("owner/name/de", "de")])
def test_a_data_set_of_the_hub_is_streamed(hub: list[Any], name: str, config: str | None) -> None:
    place = f"hf://datasets/{name}"
    np.testing.assert_array_equal(read(Path(place), "embedding"), X)
    assert set(hub) == {(name.removesuffix(f"/{config}"), config)}
    assert measured(place, keys=["train/embedding"], groups="label").group_count == 20


def test_without_a_network_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        SelectionError, match=r"hf:/+datasets/owner/name: cannot be had from the Hub: Couldn't"
    ) as found:
        open_array("hf://datasets/owner/name")
    assert "\n" not in str(found.value)
    with pytest.raises(SelectionError, match="expected hf://datasets/owner/name, or"):
        open_array("hf://datasets/a/b/c/d")
