"""Data frames in partitions: which columns are dimensions, labels and mask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.distributed_arrays import select_columns

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

SAME = 1e-12  # as in test_arrays.py
RNG = np.random.default_rng(0)
POINTS = (RNG.normal(size=(30, 1, 4)) + RNG.normal(size=(30, 5, 4))).reshape(150, 4) * [3.0, 1.0, 1.0, 1.0]
DOCUMENTS = np.repeat([f"document {i}" for i in range(30)], 5)
KEEP = RNG.random(150) < 0.8


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    columns = {f"emb_{i}": POINTS[:, i] for i in range(4)}
    return pd.DataFrame(columns | {"document": DOCUMENTS, "keep": KEEP})


def same(measured: iso.Measurement, expected: iso.Measurement) -> None:
    for name in ("score", "unbiased_score", "standard_error", "count", "dim", "group_count"):
        ours, its = getattr(measured, name), getattr(expected, name)
        assert ours is its is None or ours == pytest.approx(its, rel=SAME), name


@pytest.mark.parametrize("partitions", [1, 4, 11])
def test_labels_and_mask_by_column(table: pd.DataFrame, partitions: int) -> None:
    frame = dd.from_pandas(table, npartitions=partitions)
    same(iso.measure(frame, groups="document", mask="keep"), iso.measure(POINTS, groups=DOCUMENTS, mask=KEEP))
    handed = iso.measure(frame, groups=frame["document"], mask=frame["keep"])
    same(handed, iso.measure(POINTS, groups=DOCUMENTS, mask=KEEP))
    with_numbers = frame.assign(document=frame["emb_0"].round().astype(int))
    labels = POINTS[:, 0].round().astype(int)
    same(
        iso.measure(with_numbers, groups=with_numbers["document"], mask="keep"),
        iso.measure(POINTS, groups=labels, mask=KEEP),
    )
    dimensions = select_columns(frame, "emb_[23]", "emb_0")
    assert list(dimensions.columns) == ["emb_2", "emb_3", "emb_0"]
    same(iso.measure(dimensions), iso.measure(POINTS[:, [2, 3, 0]]))
    same(iso.measure(dimensions, groups=frame["document"]), iso.measure(POINTS[:, [2, 3, 0]], groups=DOCUMENTS))
    same(iso.measure(dimensions, groups=DOCUMENTS), iso.measure(POINTS[:, [2, 3, 0]], groups=DOCUMENTS))
    assert iso.isoscore(dimensions, mask=KEEP) == pytest.approx(iso.isoscore(POINTS[:, [2, 3, 0]], mask=KEEP), rel=SAME)


def test_a_column_of_lists_in_parquet(tmp_path: Path) -> None:
    for part in range(3):
        rows = slice(part * 50, part * 50 + 50)
        pd.DataFrame({"vector": list(POINTS[rows]), "document": DOCUMENTS[rows]}).to_parquet(
            tmp_path / f"{part}.parquet"
        )
    frame = dd.read_parquet(tmp_path)
    expected = iso.measure(POINTS, groups=DOCUMENTS)
    same(iso.measure(frame, groups="document"), expected)
    same(iso.measure(frame["vector"], groups=frame["document"]), expected)
    same(iso.measure(select_columns(frame, "vec*")), iso.measure(POINTS))
    kept = DOCUMENTS > "document 2"  # as strings, so that the first file has none that is kept
    same(
        iso.measure(frame[frame["document"] > "document 2"], groups="document"),
        iso.measure(POINTS[kept], groups=DOCUMENTS[kept]),
    )


def test_partitions_without_rows(table: pd.DataFrame) -> None:
    frame = dd.from_pandas(table, npartitions=6)
    kept = frame[frame["document"] > "document 2"]  # strings, so that the first ones go
    rows = DOCUMENTS > "document 2"
    same(
        iso.measure(kept, groups="document", mask="keep"),
        iso.measure(POINTS[rows], groups=DOCUMENTS[rows], mask=KEEP[rows]),
    )


def test_errors(table: pd.DataFrame) -> None:
    frame = dd.from_pandas(table, npartitions=3)
    with pytest.raises(iso.InvalidTypeError, match=r"got others, 'document', 'keep'\. Choose the dimensions"):
        iso.measure(frame)
    with pytest.raises(iso.InvalidValueError, match="there is no column 'sentence'"):
        iso.measure(frame, groups="sentence")
    with pytest.raises(iso.InvalidValueError, match="no column is 'x_\\*' or matches it"):
        select_columns(frame, "x_*")
    with pytest.raises(iso.InvalidTypeError, match="expected a data frame of Dask"):
        select_columns(table, "emb_*")
    missing = table.assign(document=[None, *DOCUMENTS[1:]])
    with pytest.raises(iso.InvalidTypeError, match="groups, chunk 0: expected labels"):
        iso.measure(dd.from_pandas(missing, npartitions=3), groups="document", mask="keep")
    with pytest.raises(iso.InvalidTypeError, match="expected lists of numbers, each a point, in the column 'document'"):
        iso.measure(frame["document"])
    with pytest.raises(iso.InvalidValueError, match=r"expected shape \(150,\)"):
        iso.measure(select_columns(frame, "emb_*"), groups=np.zeros(3))


def test_classes_of_a_frame_are_refused(table: pd.DataFrame) -> None:
    frame = dd.from_pandas(table, npartitions=4)
    with pytest.raises(iso.InvalidTypeError, match=r"got a data frame of Dask\. Give X\.compute\(\)"):
        iso.measure_groups(frame[["emb_0", "emb_1"]], by=frame["document"])
