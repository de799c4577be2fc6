"""A sweep of `isoscore-star finetune`: what it writes is true, and a killed one goes on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters import ROOT
from tiny_finetuning import arguments, examples, read_runs, read_steps

import isoscore_star as iso
from isoscore_star.cli import main
from isoscore_star.watching import open_log

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
for needed in ("typer", "rich", "accelerate", "sklearn"):
    pytest.importorskip(needed)


SWEEP = ["--sweep", "lam=-1,0,1", "zeta=0.2,0.5", "--seeds", "0,1"]


@pytest.fixture(scope="module")
def sweep(home: SimpleNamespace) -> SimpleNamespace:
    folder = home.folder / "sweep"
    assert main(arguments(home, folder, *SWEEP)) == 0
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return SimpleNamespace(folder=folder, results=results, runs=results["runs"], steps=read_steps(folder))


def of(runs: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    (found,) = [run for run in runs if all(run[name] == value for name, value in wanted.items())]
    return found


def test_every_cell_and_seed_is_a_run(sweep: SimpleNamespace) -> None:
    found = [(run["lam"], run["zeta"], run["seed"]) for run in sweep.runs]
    assert found == [(lam, zeta, seed) for lam in (-1.0, 0.0, 1.0) for zeta in (0.2, 0.5) for seed in (0, 1)]
    assert {"settings", "versions", "runs"} == set(sweep.results)
    assert sweep.results["versions"]["torch"] == version("torch")
    assert sweep.results["settings"]["batch_size"] == 8
    for run in sweep.runs:
        assert (run["estimator"], run["target"], run["floor"]) == ("shrinkage", None, None)
        assert run["metric"] == {"name": "accuracy", "value": run["metrics"]["accuracy"]}
        assert len(run["isoscore_star_by_layer"]) == len(run["intrinsic_dimension_by_layer"]) == 3
        assert run["intrinsic_dimension"] == run["intrinsic_dimension_by_layer"][-1]
        assert run["steps"] == 16
        assert 0 < run["seconds_per_step"] < run["seconds"]


def test_the_documented_keys_are_those_of_a_run(sweep: SimpleNamespace) -> None:
    text = (ROOT / "docs" / "finetune.md").read_text(encoding="utf-8").partition("**results.json**")[2]
    rows = text.partition("| key |")[2].partition("\n\n")[0].splitlines()[2:]
    keys = [key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])]
    for run in sweep.runs:
        assert set(run) | {"same_as"} == set(keys)
    assert len(keys) == len(set(keys))


def test_what_lambda_makes_no_use_of_is_trained_once(sweep: SimpleNamespace) -> None:
    for seed in (0, 1):
        first, second = of(sweep.runs, lam=0.0, zeta=0.2, seed=seed), of(sweep.runs, lam=0.0, zeta=0.5, seed=seed)
        assert second["same_as"] == first["name"]
        assert second["isoscore_star"] == first["isoscore_star"]
        assert not (sweep.folder / "runs" / second["name"]).exists()
    assert sum("same_as" in run for run in sweep.runs) == 2


def test_isotropy_rises_and_falls_as_asked(sweep: SimpleNamespace) -> None:
    for zeta in (0.2, 0.5):
        for seed in (0, 1):
            low, plain, high = (of(sweep.runs, lam=lam, zeta=zeta, seed=seed)["isoscore_star"] for lam in (-1, 0, 1))
            assert low < plain < high


def test_every_step_is_in_the_csv(sweep: SimpleNamespace) -> None:
    trained = [run["name"] for run in sweep.runs if "same_as" not in run]
    assert [(row["run"], int(row["step"])) for row in sweep.steps] == [
        (name, step) for name in trained for step in range(1, 17)
    ]
    for row in sweep.steps:
        # the linear fall of the learning rate from 5e-3 to 0 over 16 steps, as transformers has it
        assert float(row["lr"]) == pytest.approx(5e-3 * (17 - int(row["step"])) / 16)
        lam = float(row["lam"])
        if lam == 0:
            assert row["istar_penalty"] == row["isoscore_star"] == ""
        else:
            # lam·(1 − score), through float32
            assert float(row["istar_penalty"]) == pytest.approx(lam * (1 - float(row["isoscore_star"])), abs=1e-5)


def test_the_log_has_every_step_layer_and_evaluation(sweep: SimpleNamespace) -> None:
    seen = open_log(sweep.folder).read()
    trained = [run for run in sweep.runs if "same_as" not in run]
    assert (seen.state, seen.planned) == ("finished", len(sweep.runs))
    assert [(run.name, run.step, run.steps, run.state) for run in seen.runs] == [
        (run["name"], 16, 16, "finished") for run in trained
    ]
    assert [result["value"] for result in seen.results] == [run["metric"]["value"] for run in sweep.runs]
    for run, own in zip(seen.runs, trained, strict=True):
        rows = [row for row in sweep.steps if row["run"] == run.name]
        assert [float(row["loss"]) for row in rows] == list(run.series["train/loss"].values)
        assert [name[-2:] for name in run.layers("train")] == ["01", "02"]
        assert all(len(layer.steps) == 16 for layer in run.layers("train").values())
        assert run.series["eval/accuracy"].steps == (8, 16)
        assert max(run.series["eval/accuracy"].values) == own["metric"]["value"]
        score = run.series["train/isoscore_star"].values
        assert len(score) == 16
        if own["lam"] != 0:  # the penalty's, not the monitor's
            assert list(score) == [float(row["isoscore_star"]) for row in rows]


def test_loss_is_the_task_s_plus_the_penalty(sweep: SimpleNamespace) -> None:
    first = {row["run"]: row for row in sweep.steps if row["step"] == "1"}
    plain = float(first[of(sweep.runs, lam=0.0, zeta=0.2, seed=0)["name"]]["loss"])
    for lam in (-1.0, 1.0):
        row = first[of(sweep.runs, lam=lam, zeta=0.2, seed=0)["name"]]
        assert float(row["loss"]) == pytest.approx(plain + float(row["istar_penalty"]), abs=1e-5)


def test_without_lambda_it_is_plain_training(sweep: SimpleNamespace, home: SimpleNamespace, tmp_path: Path) -> None:
    """Transformers' own Trainer, told the same, has the same losses."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(home.model)
    rows = [{**tokenizer(sentence), "labels": ("neg", "pos").index(label)} for sentence, label in examples(64, 1)]
    transformers.set_seed(1)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(home.model, num_labels=2)
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            str(tmp_path), seed=1, num_train_epochs=2, learning_rate=5e-3, per_device_train_batch_size=8,
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    trainer.train()
    expected = [logs["loss"] for logs in trainer.state.log_history if "loss" in logs]
    name = of(sweep.runs, lam=0.0, zeta=0.2, seed=1)["name"]
    found = [float(row["loss"]) for row in sweep.steps if row["run"] == name]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("lam", [-1.0, 0.0, 1.0])
def test_numbers_are_those_of_the_saved_model(sweep: SimpleNamespace, home: SimpleNamespace, lam: float) -> None:
    """Sentence by sentence, so that there is no padding to leave out, and all states at once."""
    run = of(sweep.runs, lam=lam, zeta=0.2, seed=0)
    folder = sweep.folder / run["model"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    right, states = 0, []
    for sentence, label in examples(24, 2):
        with torch.no_grad():
            found = model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True)
        right += model.config.id2label[int(found.logits.argmax())] == label
        states.append([layer[0].double().numpy() for layer in found.hidden_states])
    layers = [np.concatenate(layer) for layer in zip(*states, strict=True)]
    assert run["metric"]["value"] == right / 24
    assert run["tokens"] == len(layers[0])
    # The states are float32: padded batches and single sentences differ by rounding, far below the tolerance.
    union = np.concatenate(layers[1:])
    assert run["isoscore_star"] == pytest.approx(iso.reference.isoscore_star(union), abs=1e-5)
    # Examples come in the order of their lengths; every second one is of the second half.
    in_order = sorted(states, key=lambda example: len(example[0]))
    halves = [np.concatenate([layer for example in in_order[half::2] for layer in example[1:]]) for half in (0, 1)]
    expected = iso.reference.isoscore_halves(*halves)
    assert run["isoscore_star_unbiased"] == pytest.approx(expected, abs=1e-5)
    assert run["isoscore_star_by_layer"] == pytest.approx([iso.isoscore(layer) for layer in layers], abs=1e-5)
    skdim = pytest.importorskip("skdim.id")
    # Only at layer 0 are there equal states ([CLS], say), which have no dimension.
    expected = [skdim.TwoNN().fit(layer).dimension_ for layer in layers[1:]]
    assert run["intrinsic_dimension_by_layer"][1:] == pytest.approx(expected, rel=1e-3)


def test_the_best_state_is_kept(home: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star.finetuning import _run

    given = iter([0.2, 0.9, 0.5])
    monkeypatch.setattr(_run, "scores", lambda *_: {"accuracy": next(given)})
    assert main(arguments(home, tmp_path, lam=0, epochs=3, max_train=16)) == 0
    (run,) = read_runs(tmp_path)
    assert (run["metric"]["value"], run["best_step"], run["steps"]) == (0.9, 4, 6)


def test_a_second_call_adds_only_what_is_new(
    sweep: SimpleNamespace,
    home: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from isoscore_star.finetuning import _run

    monkeypatch.setattr(_run, "run", None)  # nothing is to be trained
    assert main(arguments(home, sweep.folder, *SWEEP)) == 0
    assert read_runs(sweep.folder) == sweep.runs
    assert read_steps(sweep.folder) == sweep.steps
    out, err = capsys.readouterr()
    assert err == ""
    assert "IsoScore* by layer" in out
    values = [of(sweep.runs, lam=1.0, zeta=0.5, seed=seed)["isoscore_star"] for seed in (0, 1)]
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in out


def test_json_is_all_that_is_printed(
    sweep: SimpleNamespace, home: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(home, sweep.folder, *SWEEP, "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((sweep.folder / "results.json").read_text(encoding="utf-8"))
    assert err == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_sweep_goes_on_and_a_pipe_gets_no_bar(home: SimpleNamespace, tmp_path: Path) -> None:
    words = arguments(home, tmp_path, "--sweep", "lam=1,2,3,4", "estimator=unbiased")
    # (without scikit-dimension, whose import takes seconds)
    code = "import sys; sys.modules['skdim'] = None; from isoscore_star.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if (tmp_path / "results.json").exists() and read_runs(tmp_path):
                break
            time.sleep(0.02)
    finally:
        process.kill()
    out, err = process.communicate()
    assert (out, err) == (b"", b"")
    kept = read_runs(tmp_path)
    assert 1 <= len(kept) < 4
    assert main(words) == 0
    runs = read_runs(tmp_path)
    assert runs[: len(kept)] == kept
    assert [run["lam"] for run in runs] == [1, 2, 3, 4]
    steps = [(row["run"], int(row["step"])) for row in read_steps(tmp_path)]
    assert sorted(steps) == sorted((run["name"], step) for run in runs for step in range(1, 17))


def test_an_interrupt_keeps_what_is_done(
    home: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Any
) -> None:
    from isoscore_star.finetuning import _run

    made, run = [], _run.run

    def interrupted(prepared: Any, cell: Any, *rest: Any) -> dict[str, Any]:
        if made:
            raise KeyboardInterrupt
        made.append(cell)
        return run(prepared, cell, *rest)

    monkeypatch.setattr(_run, "run", interrupted)
    assert failure(*arguments(home, tmp_path, "--sweep", "lam=0,1", max_steps=2)) == (130, "error: interrupted")
    assert [run["lam"] for run in read_runs(tmp_path)] == [0]


def test_other_settings_in_the_same_folder(sweep: SimpleNamespace, home: SimpleNamespace, failure: Any) -> None:
    code, line = failure(*arguments(home, sweep.folder, *SWEEP, lr=1e-3, max_eval=5))
    assert code == 2
    assert "holds runs of other settings: max_eval was null, is now 5; lr was 0.005, is now 0.001" in line
    assert read_runs(sweep.folder) == sweep.runs


def test_every_setting_of_a_run_can_be_swept() -> None:
    from dataclasses import asdict

    from isoscore_star.finetuning import Cell, cells, parse_sweep

    base = Cell()
    given = {"lam": -0.5, "floor": 0.1, "lam_schedule": "linear", "warmup_steps": 3, "epochs": 1.0, "batch_size": 4}
    given |= {"zeta": 0.4, "estimator": "unbiased", "lr": 1e-5, "target": None}
    assert set(given) == set(asdict(base))
    words = [f"{name.replace('_', '-')}={'none' if value is None else value}" for name, value in given.items()]
    assert cells(base, parse_sweep(words)) == [Cell(**given)]
