"""``isoscore-star measure --workers`` and ``--scheduler``: the numbers of one process."""

from __future__ import annotations

import json

import numpy as np
import pytest
from point_files import save

from isoscore_star.cli import main

distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")
pytest.importorskip("typer")
pytest.importorskip("pyarrow")

SAME = 1e-12  # sums in another order
NUMBERS = ("score", "unbiased_score", "standard_error", "effective_dimensions", "count", "group_count")


def states(sequences: int = 200, tokens: int = 6, dim: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(sequences, 1, dim)) + rng.normal(size=(sequences, tokens, dim))
    return np.asarray(drawn * np.r_[4.0, np.ones(dim - 1)])


def same(found, expected):
    for name in NUMBERS:
        assert found[name] is expected[name] is None or found[name] == pytest.approx(expected[name], rel=SAME), name
    assert found["groups"] == expected["groups"]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("workers"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", local_directory=folder
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_workers_of_a_scheduler_give_the_numbers_of_one_process(measured, scheduler, monkeypatch):
    monkeypatch.setattr("isoscore_star.clusters._LEAST_ROWS", 100)  # so that small arrays are cut
    whole = states()
    mask = np.random.default_rng(1).random(whole.shape[:2]) < 0.8
    save("states.npy", whole)
    np.save("mask.npy", mask)
    np.save("flat.npy", whole.reshape(-1, 8))
    np.save("labels.npy", np.random.default_rng(2).integers(0, 40, 1200))
    np.save("layers.npy", np.stack([whole, whole[..., ::-1] * 2 + 1]))
    for part in range(2):
        rows = whole[part * 100 : part * 100 + 100]
        columns = {f"emb_{i}": rows[..., i].reshape(-1) for i in range(8)}
        pd.DataFrame(columns | {"text": np.repeat(np.arange(100) + 100 * part, 6)}).to_parquet(f"{part}.parquet")
    for command in (
        ["states.npy", "--mask", "mask.npy"],
        ["flat.npy"],
        ["flat.npy", "--groups", "labels.npy"],
        ["0.parquet", "1.parquet", "--groups", "text", "--columns", "emb_*"],
        ["layers.npy", "--by-layer"],
    ):
        found, expected = measured(*command, "--scheduler", scheduler), measured(*command)
        same(found["union"], expected["union"])
        for layer, its in zip(found.get("layers", []), expected.get("layers", []), strict=True):
            same(layer, its)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--groups", "text", "--columns", "emb_*"], ["--groups", "none", "--columns", "emb_*"]]
)
def test_shards_are_shared_among_workers(folder, capsys, scheduler, options):
    whole, found = states(), {}
    for part, rows in enumerate(
        np.split(whole.reshape(-1, 8), [500])
    ):  # a text begins in one file and ends in the other
        columns = {f"emb_{i}": rows[:, i] for i in range(8)}
        texts = np.repeat(np.arange(200), 6)[part * 500 : part * 500 + len(rows)]
        pd.DataFrame(columns | {"text": texts}).to_parquet(f"{part}.parquet")
    for name, more in (("workers", ["--scheduler", scheduler]), ("one", [])):
        assert main(["measure", "*.parquet", *options, *more, "--json"]) == 0
        found[name] = json.loads(capsys.readouterr().out)["union"]
    same(found["workers"], found["one"])


@pytest.mark.slow
def test_workers_are_started_and_a_bad_value_is_found_in_its_file(measured, failure):
    save("states.npy", states())
    same(measured("states.npy", "--workers", "2")["union"], measured("states.npy")["union"])
    bad = states()
    bad[150, 3, 2] = np.nan
    save("bad.npy", bad)
    code, message = failure("measure", "bad.npy", "--workers", "1")
    assert (code, "bad.npy: every value has to be finite" in message) == (1, True), message


def test_what_does_not_go_together(failure):
    save("states.npy", states(20))
    code, message = failure("measure", "states.npy", "--workers", "2", "--scheduler", "tcp://x:1")
    assert (code, "a cluster has its own workers" in message) == (2, True), message
    code, message = failure("measure", "states.npy", "--workers", "2", "--checkpoint", "c")
    assert (code, "--checkpoint: is for one process" in message) == (2, True), message
    code, message = failure("measure", "states.npy", "--workers", "0")
    assert (code, "--workers" in message) == (2, True), message
