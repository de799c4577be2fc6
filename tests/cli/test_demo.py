"""`isoscore-star demo`: runs end to end, does what it claims, and says so from the numbers alone."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest

import isoscore_star as iso
from isoscore_star import demonstration
from isoscore_star.demonstration import Comparison, Run, demonstrate
from isoscore_star.demonstration._comparison import LAMS, SEEDS
from isoscore_star.sample import load_sample

pytest.importorskip("typer")
pytest.importorskip("rich")


def run_demo(*arguments: object, without: tuple[str, ...] = ()) -> SimpleNamespace:
    block = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = f"import sys; {block}from isoscore_star.cli import main; sys.exit(main())"
    command = [sys.executable, "-W", "error", "-c", code, "demo", *map(str, arguments)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=240)
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, seconds=time.monotonic() - started)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("demo") / "made" / "by the demo"
    done = run_demo("--output", folder)
    assert done.code == 0, done.err
    done.folder = folder
    done.results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return done


@pytest.mark.slow
def test_runs_within_its_time_and_quietly(full: SimpleNamespace) -> None:
    assert full.seconds < 120
    assert full.err == ""
    assert "left out:" not in full.out.lower()


@pytest.mark.slow
def test_isotropy_rises_and_falls_as_asked(full: SimpleNamespace) -> None:
    final = {(run["lam"], run["seed"]): run["scores"][-1] for run in full.results["training"]["runs"]}
    for seed in range(SEEDS):
        assert final[1.0, seed] > 2 * final[0.0, seed]
        assert final[0.0, seed] > final[-1.0, seed]
    high, middle, low = (summary["score_after"] for summary in full.results["training"]["summary"])
    assert high > middle > low


@pytest.mark.slow
def test_runs_of_a_seed_start_alike(full: SimpleNamespace) -> None:
    for seed in range(SEEDS):
        runs = [run for run in full.results["training"]["runs"] if run["seed"] == seed]
        assert len(runs) == len(LAMS)
        assert len({(run["scores"][0], run["accuracies"][0]) for run in runs}) == 1


@pytest.mark.slow
def test_files_parse_and_agree_with_what_is_printed(full: SimpleNamespace) -> None:
    names = {"results.json", "layers.csv", "layers.png", "layers.svg"}
    assert {path.name for path in full.folder.iterdir()} == names
    assert all(name in full.out for name in names)
    assert (full.folder / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(full.folder / "layers.svg").getroot().tag.endswith("svg")
    with (full.folder / "layers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [*map(str, range(7)), "union of 1 to 6"]
    for row, layer in zip(rows, [*full.results["layers"], full.results["union"]], strict=True):
        assert float(row["unbiased_score"]) == layer["unbiased_score"]
        assert f"{layer['unbiased_score']:.3f} ± {layer['standard_error']:.3f}" in full.out
    for summary in full.results["training"]["summary"]:
        assert f"{summary['score_before']:.3f} -> {summary['score_after']:.3f}" in full.out
    printed = " ".join(full.out.split())
    assert all(sentence in printed for sentence in full.results["training"]["verdict"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(full: SimpleNamespace) -> None:
    from isoscore_star.demonstration._training import one_thread, train

    with one_thread():
        run = train(load_sample(), 1.0, 0)
    first = full.results["training"]["runs"][0]
    assert (run.lam, run.seed) == (first["lam"], first["seed"])
    assert (list(run.scores), list(run.accuracies)) == (first["scores"], first["accuracies"])


@pytest.mark.slow
def test_measurements_are_those_of_the_library(full: SimpleNamespace) -> None:
    sample = load_sample()
    for states, layer in zip(sample.states, full.results["layers"], strict=True):
        # Halves are merged, by sums in another order than those of all points.
        assert layer["score"] == pytest.approx(iso.isoscore(states, mask=sample.mask), abs=1e-12)
    union = iso.isoscore(list(sample.states[1:]), mask=sample.mask)
    assert full.results["union"]["score"] == pytest.approx(union, abs=1e-12)
    assert full.results["union"]["layers"] == [1, 2, 3, 4, 5, 6]


def test_without_torch_it_still_measures_and_says_what_is_left_out(tmp_path: Path) -> None:
    done = run_demo("--output", tmp_path, without=("torch",))
    assert done.code == 0, done.err
    left_out = [line for line in done.out.splitlines() if "Left out" in line]
    assert len(left_out) == 1
    assert 'pip install "isoscore-star[torch]"' in left_out[0]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["training"] is None
    assert results["left_out"] == left_out
    assert len(results["layers"]) == 7
    assert "lam" not in done.out.replace("layer", "")


def test_without_matplotlib_there_are_no_pictures_and_json_is_all_that_is_printed(tmp_path: Path) -> None:
    done = run_demo("--output", tmp_path, "--json", without=("torch", "matplotlib"))
    assert done.code == 0, done.err
    results = json.loads(done.out)
    assert results == json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert 'pip install "isoscore-star[plot]"' in results["left_out"][1]
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "layers.csv"}


def test_folder_that_cannot_be_written_is_one_line_and_exit_1(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    done = run_demo("--output", blocker / "folder")
    assert done.code == 1
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert "output: cannot write to" in done.err
    assert done.seconds < 30


def test_progress_grows_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "available_backends", lambda: ("numpy",))
    shares: list[float] = []
    found = demonstrate(progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert found.comparison is None


def comparison(scores: dict[float, float], accuracies: dict[float, float]) -> Comparison:
    return Comparison(
        tuple(Run(lam, seed, (0.5, scores[lam]), (0.2, accuracies[lam])) for lam in LAMS for seed in range(3))
    )


def test_verdict_follows_the_numbers() -> None:
    level = {1.0: 0.7, 0.0: 0.7, -1.0: 0.8}
    as_asked = comparison({1.0: 0.9, 0.0: 0.5, -1.0: 0.1}, level).verdict
    assert as_asked[0].startswith("lam = 1 raised isotropy, as asked: the median score ends at 0.900, against 0.500")
    assert as_asked[0].endswith("The median accuracy stayed at 70.0%.")
    assert as_asked[1].startswith("lam = -1 lowered isotropy, as asked")
    assert as_asked[1].endswith("80.0%, 10.0 points higher than with lam = 0 (higher in 3 of 3 seeds).")
    reversed_ = comparison({1.0: 0.1, 0.0: 0.5, -1.0: 0.9}, level).verdict
    assert reversed_[0].startswith("lam = 1 did not raise isotropy")
    assert "higher in 0 of 3 seeds" in reversed_[0]
    assert reversed_[1].startswith("lam = -1 did not lower isotropy")
