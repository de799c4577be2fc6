"""``isoscore-star explain``: `Measurement.explain` and the measures of points, for files of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

import isoscore_star as iso
from isoscore_star.cli import main
from isoscore_star.diagnostics import point_measures


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Work in a folder with states.npz, which holds (8, 50, 6) states, other ones, and a mask."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(8, 50, 6)) * [8, 1, 1, 1, 1, 0.5] + 1
    mask = np.arange(50) < np.linspace(20, 50, 8)[:, None]
    np.savez("states.npz", states=points, others=rng.normal(size=(40, 6)), mask=mask.astype(int))
    return points


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["explain", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_json_is_the_explanation(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.load("states.npz")["mask"]
    found = explained(capsys, "states.npz", "--key", "states", "--mask", "mask")
    others = point_measures(states[mask == 1])
    expected = iso.measure(states, mask=mask).explain(average_cosine=others[0].value).to_dict()
    assert found["sentences"] == expected["sentences"]
    assert found["between"][0]["shares"] == pytest.approx(expected["between"][0]["shares"])
    for name in ("directions", "coordinates", "what_ifs"):
        for ours, its in zip(found[name], expected[name], strict=True):
            assert ours == pytest.approx(its)
    values = {measure["name"]: measure["value"] for measure in found["measures"]}
    assert len(values) == len(expected["measures"]) + len(others)
    for other in others:  # of the same points in another order
        assert values[other.name] == pytest.approx(other.value, rel=1e-6)


def test_a_file_larger_than_the_sample(
    states: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("many.npy", np.random.default_rng(1).normal(size=(9000, 4)) + 3)
    found = explained(capsys, "many.npy")
    assert found["count"] == 9000
    (cosine,) = (measure for measure in found["measures"] if measure["name"] == "average cosine similarity")
    assert cosine["note"] == "of a random sample of 4,096 points"
    unit = np.load("many.npy")
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    exact = (np.sum(unit.sum(axis=0) ** 2) - 9000) / (9000 * 8999)
    # A mean of 4,096 directions is known to about 1/√4096 of their spread, its square to twice that.
    assert cosine["value"] == pytest.approx(exact, abs=2 / 64)


def test_the_tables_name_all(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "states.npz", "--key", "states"]) == 0
    out = capsys.readouterr().out
    explanation = iso.measure(states).explain()
    assert out.startswith(explanation.sentences[0][:60])
    assert "coordinate 0" in out
    assert "within 8 groups" in out
    for what_if in explanation.what_ifs:
        line = next(line for line in out.splitlines() if what_if.name in line)
        assert f"{what_if.score:.4f}" in line


def test_several_keys_are_one_cloud(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("layers.npz", first=states[..., 0:3], second=2 * states[..., 3:6])
    found = explained(capsys, "layers.npz", "--key", "first", "--key", "second")
    layers = [states[..., 0:3].reshape(-1, 3), 2 * states[..., 3:6].reshape(-1, 3)]
    cov = np.cov(np.concatenate(layers).T)
    directions = np.linalg.eigvalsh(cov)[::-1] / np.trace(cov)
    assert [one["variance_share"] for one in found["directions"]] == pytest.approx(
        list(directions[: len(found["directions"])])
    )


def test_columns_have_their_names(states: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "\n".join(",".join(f"{value:.6f}" for value in row) for row in states.reshape(-1, 6))
    Path("x.csv").write_text("[red]a,b,c,d,e,f\n" + rows + "\n")
    assert main(["explain", "x.csv"]) == 0
    assert "coordinate [red]a" in capsys.readouterr().out


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
    assert main(["explain", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
