"""``isoscore-star compare-measures``: the table of `diagnostics.compare_measures` for a file."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("skdim.id")

from isoscore_star.cli import main
from isoscore_star.cli.compare_measures import _COPIES
from isoscore_star.diagnostics import compare_measures
from isoscore_star.readers import _memory


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Work in a folder with states.npz, which holds (2, 50, 6) points, other ones, and a mask."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 50, 6)) * [4, 1, 1, 1, 1, 0.5] + 1
    mask = np.arange(50) < np.array([[50], [30]])
    np.savez("states.npz", states=points, others=rng.normal(size=(40, 6)), mask=mask.astype(int))
    np.save("mask.npy", mask)
    return points


def measures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    assert main(["compare-measures", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return {row["name"]: row["value"] for row in json.loads(out)["measures"]}


def expected(*args: object) -> dict[str, float]:
    return {row["name"]: row["value"] for row in compare_measures(*args, groups=None).to_dict()["measures"]}


def test_json_is_the_comparison(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert measures(capsys, "states.npz", "--key", "states") == pytest.approx(expected(states))


@pytest.mark.parametrize("mask", ["mask", "mask.npy"])
def test_masked_points_do_not_count(states: np.ndarray, capsys: pytest.CaptureFixture[str], mask: str) -> None:
    keep = np.load("mask.npy")
    got = measures(capsys, "states.npz", "--key", "states", "--mask", mask)
    assert got == pytest.approx(expected(states, keep))


def test_several_keys_are_a_union(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    got = measures(capsys, "states.npz", "--key", "states", "--key", "others")
    assert got == pytest.approx(expected([states, np.load("states.npz")["others"]]))


def test_the_table_names_every_measure(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare-measures", "states.npz", "--key", "states"]) == 0
    out = capsys.readouterr().out
    assert "100 points, 6 dimensions" in out
    for row in compare_measures(states, groups=None).rows:
        line = next(line for line in out.splitlines() if row.name in line)
        assert f"{row.value:.4g}" in line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.npz"], 2, "missing.npz"),
        (["states.npz"], 2, "choose one by its key"),
        (["states.npz", "--key", "states", "--mask", "nothing"], 2, "nothing"),
        (["nan.npy"], 1, "nan.npy: every value has to be finite"),
        (["same.npy"], 1, "same.npy: all 9 points are identical"),
    ],
)
def test_a_mistake_is_one_line(
    states: np.ndarray, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    np.save("nan.npy", np.where(np.eye(5), np.nan, 1.0))
    np.save("same.npy", np.ones((9, 3)))
    assert main(["compare-measures", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("known", [True, False])
def test_what_does_not_fit_into_memory_is_refused_with_the_figure(
    states: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(_memory, "free_memory", lambda: 100_000_000)
    name = "many.npy" if known else "many.csv"
    if known:
        np.save(name, np.zeros((100_000, 100), np.float32))
    else:
        pytest.importorskip("pyarrow")
        Path(name).write_text("a,b,c\n" + "0.5,1.5,2.5\n" * 1_000_000)
    assert main(["compare-measures", name]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    # Points, and five copies in float64; of a table that does not say how long it is, when the copies no longer fit.
    needed = r"0\.5" if known else r"0\.1"
    assert re.fullmatch(rf"error: {name}: comparing .* takes {needed} GB of memory; \d+\.\d GB are free\. .*\n", err)


def test_the_copies_that_are_counted_are_those_that_are_made(states: np.ndarray) -> None:
    points = np.random.default_rng(0).normal(size=(50_000, 16))
    compare_measures(points[:100])  # what is loaded once does not count
    tracemalloc.start()
    try:
        compare_measures(points, max_pairwise_points=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (_COPIES - 1) * points.nbytes < peak < (_COPIES + 0.2) * points.nbytes
