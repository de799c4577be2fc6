"""Data of `isoscore-star finetune`: files of every format, GLUE by name, and those that cannot be used."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters import REAL_DATA
from tiny_finetuning import arguments, examples, read_runs, write_rows

from isoscore_star.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
for needed in ("typer", "rich", "accelerate", "sklearn"):
    pytest.importorskip(needed)


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


def test_other_data_under_the_same_name(
    home: SimpleNamespace, tmp_path: Path, failure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_rows(tmp_path / "train.tsv", examples(20, 1))
    assert main(arguments(home, tmp_path / "out", task=train, max_steps=1, lam=0)) == 0
    capsys.readouterr()
    write_rows(train, examples(20, 2))
    code, line = failure(*arguments(home, tmp_path / "out", task=train, max_steps=1, lam=0))
    assert (code, "data_sha256 was" in line, len(read_runs(tmp_path / "out"))) == (2, True, 1)


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
