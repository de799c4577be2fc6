"""`isoscore-star finetune` on damaged models and data, arguments out of range, and full disks: one line each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from full_disk import no_file_above
from tiny_finetuning import arguments, examples, write_rows

from isoscore_star import InvalidValueError
from isoscore_star.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
for needed in ("typer", "rich", "accelerate", "sklearn", "filelock", "safetensors"):
    pytest.importorskip(needed)

ESCAPE = "\x1b[31mred"


# Models


def cut(name: str, share: float) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return change


def put(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def configured(**changed: object) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | changed), encoding="utf-8")

    return change


def weighed(make: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(make(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})

    return change


def torch_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\3\4 and no more")


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 26464\n"

BAD_MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights cut": (cut("model.safetensors", 0.5), "model.safetensors: holds no whole weights ("),
    "weights empty": (cut("model.safetensors", 0), "model.safetensors: holds no whole weights ("),
    "weights are a pointer": (put("model.safetensors", POINTER), "model.safetensors: is a Git LFS pointer"),
    "weights in a torch file": (torch_file, "holds no usable model: PytorchStreamReader failed"),
    "weights of fewer layers": (
        weighed(lambda found: {name: value for name, value in found.items() if "layer.1." not in name}),
        "lacks 16 of the weights that its config.json calls for",
    ),
    "weights of another width": (configured(hidden_size=32), "of the weights that its config.json calls for"),
    "weights of another model": (
        weighed(lambda _: {"x": torch.zeros(2)}),
        "of the weights that its config.json calls for",
    ),
    "weights not finite": (
        weighed(lambda found: {name: value * float("nan") for name, value in found.items()}),
        "are not finite before any training: its weights are damaged",
    ),
    "config cut": (cut("config.json", 0.5), "config.json: is not JSON: "),
    "config is a list": (put("config.json", b"[1]"), "config.json: holds no JSON object"),
    "config nested": (put("config.json", b"[" * 100_000), "config.json: holds JSON that is nested too deeply"),
    "config in another encoding": (put("config.json", b'{"a": "\xe9"}'), "config.json: is not UTF-8 text"),
    "config without layers": (configured(num_hidden_layers=0), "has no layers but the embeddings"),
    "config with a wrong type": (configured(num_labels="x"), "holds no usable model: "),
    "config with code": (
        configured(model_type="own", auto_map={"AutoConfig": "own.Config"}),
        "holds no usable model: ",
    ),
    "tokenizer cut": (cut("tokenizer.json", 0.9), "tokenizer.json: is not JSON: "),
    "tokenizer of another kind": (put("tokenizer.json", b"{}"), "holds no usable model: tokenizer: "),
    "tokenizer settings cut": (cut("tokenizer_config.json", 0.5), "tokenizer_config.json: is not JSON: "),
    "no tokenizer": (no_tokenizer, "knows fewer than two of the words of the training data; its vocabulary holds 5"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_damaged_models(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, message = BAD_MODELS[case]
    shutil.copytree(home.model, tmp_path / "model")
    change(tmp_path / "model")
    monkeypatch.setattr("builtins.input", None)  # nothing is to be asked
    code, line = failure(*arguments(home, tmp_path / "out", model=tmp_path / "model", max_steps=1))
    assert (code, message in line) == (1, True), line
    assert "error: --model: " in line
    assert str(tmp_path / "model") in line or "Bert" in line


def test_a_pooler_and_a_head_may_be_new(home: SimpleNamespace, tmp_path: Path) -> None:
    from isoscore_star.finetuning import TaskData, load_model, load_tokenizer

    shutil.copytree(home.model, tmp_path / "model")
    weighed(lambda found: {name: value for name, value in found.items() if "pooler" not in name})(tmp_path / "model")
    data = TaskData(None, None, ["a", "b", "c"], "accuracy")  # type: ignore[arg-type]
    model = load_model(str(tmp_path / "model"), load_tokenizer(str(tmp_path / "model")), data)
    assert model.classifier.out_features == 3


def test_an_example_too_long_for_the_model(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    train = write_rows(tmp_path / "train.tsv", [("good", "pos"), ("bad film " * 40, "neg")] * 4)
    code, line = failure(*arguments(home, tmp_path / "out", task=train, eval_file=None))
    assert code == 1
    assert "BertForSequenceClassification cannot take an example of 82 tokens" in line
    assert "It has 32 places, to which a smaller --max-length cuts examples off" in line


def test_a_tokenizer_with_more_tokens_than_the_model(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    shutil.copytree(home.model, tmp_path / "model")
    configured(vocab_size=10)(tmp_path / "model")
    weighed(lambda found: found | {"embeddings.word_embeddings.weight": torch.ones(10, 16)})(tmp_path / "model")
    code, line = failure(*arguments(home, tmp_path / "out", model=tmp_path / "model"))
    assert code == 1
    assert "index out of range in self" in line
    assert "and 10 tokens, which have to be its tokenizer's" in line


# Data


def objects(*labels: str, text: str = '"a good film"') -> bytes:
    rows = ["0", "1", "0", "1", *labels]
    return "".join(f'{{"sentence": {text}, "label": {label}}}\n' for label in rows).encode()


BAD_DATA: dict[str, tuple[str, bytes, str]] = {
    "nested": ("t.jsonl", objects("[" * 100_000 + "]" * 100_000), "line 5 is nested too deeply"),
    "digits": ("t.jsonl", objects("9" * 5000), "line 5 holds a number of too many digits"),
    "half a character": ("t.jsonl", objects('"\\ud800"'), "row 5 has a surrogate alone, U+D800"),
    "half a character in a text": ("t.jsonl", objects(text='"a \\udc9b"'), "row 1 has a surrogate alone, U+DC9B"),
    "a list as label": ("t.jsonl", objects("[1, 2]"), "row 5 has a label that is neither text nor a number: [1, 2]"),
    "NaN as label": ("t.jsonl", objects("NaN"), "row 5 has no label"),
    "infinity as label": ("t.jsonl", objects("Infinity"), "row 5 has no label"),
    "a pointer": ("t.tsv", POINTER, "is a Git LFS pointer"),
    "a typo in a measure": (
        "t.tsv",
        b"text\tlabel\na\t1.5\nb\t2\nc\t5..1\n",
        "row 3 has the label '5..1', row 1 '1.5'",
    ),
    "digits among measures": (
        "t.tsv",
        b"text\tlabel\na\t1.5\nb\t" + b"9" * 5000 + b"\n",
        "row 2 has the label '999999999999...9999999999999', row 1 '1.5'",
    ),
    "a measure beyond float32": ("t.tsv", b"text\tlabel\na\t1.5\nb\t1e39\n", "numbers in float32 as labels; row 2"),
    "equal measures": ("t.tsv", b"text\tlabel\na\t1.5\nb\t1.5\n", "every label is '1.5'; there is nothing to learn"),
    "no word that is known": ("t.tsv", b"text\tlabel\nxx\t0\nyy\t1\nxy\t1\n", "knows fewer than two of the words"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_damaged_data(home: SimpleNamespace, tmp_path: Path, failure: Any, case: str) -> None:
    name, content, message = BAD_DATA[case]
    (tmp_path / name).write_bytes(content)
    code, line = failure(*arguments(home, tmp_path / "out", task=tmp_path / name, eval_file=None))
    assert (code, message in line) == (1, True), line
    assert not (tmp_path / "out").exists()


def test_two_columns_of_one_name(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "t.tsv").write_text("text\ttext\tlabel\na\tb\t0\n", encoding="utf-8")
    code, line = failure(*arguments(home, tmp_path / "out", task=tmp_path / "t.tsv"))
    assert (code, "has 2 columns 'text'; rename all but one" in line) == (2, True)


def test_no_more_than_ten_columns_are_listed(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({f"k{number}": 1 for number in range(5000)}), encoding="utf-8")
    code, line = failure(*arguments(home, tmp_path / "out", task=tmp_path / "t.jsonl"))
    assert (code, "'k9' and 4990 more" in line, "'k10'" in line) == (2, True, False)


# Arguments

BAD_ARGUMENTS: dict[str, tuple[dict[str, object], str]] = {
    "a seed of 10^11": ({"seeds": 10**11}, "seeds: expected at most 4294967295; got 100000000000"),
    "a seed of 5,000 digits": ({"seeds": "9" * 5000}, "seeds: expected whole numbers, as 1,2; got '999"),
    "layers of 5,000 digits": ({"layers": "9" * 5000}, "layers: expected whole numbers, as 1,2; got '999"),
    "epochs beyond counting": ({"epochs": 1e308}, "epochs: expected at most 1e+09; got 1e+308"),
    "a sweep of 5,000 digits": ({"sweep": "batch-size=" + "9" * 5000}, "sweep: batch-size: expected a whole number"),
    "a length beyond counting": ({"max_length": 10**30}, "--max-length"),
    "no output": ({"output": ""}, "--output"),
    "a blank output": ({"output": " "}, "--output"),
    "no model": ({"model": ""}, "--model: expected a name; got nothing"),
    "no evaluation file": ({"eval_file": ""}, "--eval-file: expected a name; got nothing"),
    "no column for labels": ({"label_column": ""}, "--label-column: expected a name; got nothing"),
    "no columns": ({"columns": ""}, "--columns: expected a name; got nothing"),
    "a name too long for a task": ({"task": "a" * 5000 + ".tsv"}, "File name too long"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_arguments_out_of_range(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    changed, message = BAD_ARGUMENTS[case]
    monkeypatch.chdir(tmp_path)
    code, line = failure(*arguments(home, changed.pop("output", "out"), **changed))
    assert (code, message in line) == (2, True), line
    assert not list(tmp_path.iterdir())


def test_names_that_the_system_does_not_take(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    for words in (arguments(home, "a" * 1000), arguments(home, tmp_path / "out", model="./" + "a" * 1000)):
        code, line = failure(*words)
        assert code == 1
        assert line.startswith(("error: --output: cannot write to ", "error: --model: there is no folder "))


def test_a_batch_larger_than_the_data_is_all_of_it(home: SimpleNamespace, tmp_path: Path) -> None:
    rows = []
    for size in (64, 10**30):
        words = arguments(home, tmp_path / str(size), batch_size=size, max_steps=1, lam=0)
        assert main(words) == 0
        rows.append((tmp_path / str(size) / "steps.csv").read_text(encoding="utf-8"))
    assert rows[0] == rows[1]


# Folders of results

GOOD_RUN = {
    "name": "x", "seed": 0, "lam": 1.0, "zeta": 0.2, "estimator": "shrinkage", "target": None, "floor": None,
    "lam_schedule": "constant", "warmup_steps": 0, "epochs": 2.0, "batch_size": 8, "lr": 5e-3,
    "metric": {"name": "accuracy", "value": 0.5}, "isoscore_star": 0.5, "isoscore_star_unbiased": None,
    "intrinsic_dimension": 1.0, "seconds_per_step": 0.1, "isoscore_star_by_layer": [0.1], "notes": [],
}  # fmt: skip

BAD_RESULTS = {
    "nested": "[" * 100_000,
    "digits": '{"settings": ' + "9" * 5000 + "}",
    "no run": json.dumps({"settings": {}, "runs": [1]}),
    "no name": json.dumps({"settings": {}, "runs": [GOOD_RUN | {"name": [1]}]}),
    "no score": json.dumps({"settings": {}, "runs": [GOOD_RUN | {"isoscore_star": "high"}]}),
    "no layers": json.dumps({"settings": {}, "runs": [GOOD_RUN | {"isoscore_star_by_layer": 3}]}),
    "no metric": json.dumps({"settings": {}, "runs": [GOOD_RUN | {"metric": None}]}),
    "a list as setting": json.dumps({"settings": {}, "runs": [GOOD_RUN | {"lam": []}]}),
}


@pytest.mark.parametrize("case", BAD_RESULTS)
def test_damaged_results(home: SimpleNamespace, tmp_path: Path, failure: Any, case: str) -> None:
    (tmp_path / "results.json").write_text(BAD_RESULTS[case], encoding="utf-8")
    code, line = failure(*arguments(home, tmp_path))
    assert (code, "results.json: cannot be read as the results of a fine-tuning" in line) == (1, True), line
    assert (tmp_path / "results.json").read_text(encoding="utf-8") == BAD_RESULTS[case]


@pytest.mark.parametrize("content", [b"run,step\n\xff\n", b"run\n" + b"a" * 200_000, None])
def test_damaged_steps(home: SimpleNamespace, tmp_path: Path, failure: Any, content: bytes | None) -> None:
    (tmp_path / "steps.csv").mkdir() if content is None else (tmp_path / "steps.csv").write_bytes(content)
    code, line = failure(*arguments(home, tmp_path))
    assert (code, "steps.csv: cannot be read as the results of a fine-tuning" in line) == (1, True), line


def test_a_row_that_was_cut_off_is_no_other_run_s(tmp_path: Path) -> None:
    from isoscore_star.finetuning import Results

    results = Results(tmp_path, {})
    with results.alone():
        results.add_step({"run": "seed=1", "step": 1, "loss": 0.5, "lam": 1, "lr": 0.1})
        results.add(GOOD_RUN | {"name": "seed=1"})
        with (tmp_path / "steps.csv").open("a", encoding="utf-8") as file:
            file.write("seed=1")  # of seed=12,1,0.5
    with Results(tmp_path, {}).alone():
        rows = (tmp_path / "steps.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["run,step,loss,istar_penalty,isoscore_star,lam,lr", "seed=1,1,0.5,,,1,0.1"]


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed there")
def test_a_folder_s_name_is_shown_escaped(
    home: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(text, ESCAPE if label == "pos" else "[bold]") for text, label in examples(8, 1)]
    train = write_rows(tmp_path / f"{ESCAPE}.tsv", rows)
    assert main(arguments(home, tmp_path / ESCAPE, task=train, eval_file=None, max_steps=1, lam=0)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert rf"Results are in {tmp_path}/\x1b[31mred: results.json" in out


# Full disks


@pytest.mark.parametrize("size", [0, 1500, 20_000])
def test_a_full_disk_is_one_line_and_the_sweep_goes_on(
    home: SimpleNamespace, tmp_path: Path, failure: Any, size: int
) -> None:
    words = arguments(home, tmp_path / "out", max_steps=1, lam=0)
    with no_file_above(size):
        code, line = failure(*words)
    assert (code, "output: cannot write to" in line, "Make room there" in line) == (1, True, True), line
    assert main(words) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".lock"} == {
        "results.json",
        "steps.csv",
        "log.jsonl",
        "runs",
    }
    whole = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert len(whole["runs"]) == 1


def test_a_full_disk_leaves_the_results_that_were_there(tmp_path: Path) -> None:
    from isoscore_star.finetuning import Results

    results = Results(tmp_path, {})
    with results.alone():
        results.add(GOOD_RUN)
        before = (tmp_path / "results.json").read_bytes()
        with (
            no_file_above(len(before)),
            pytest.raises(InvalidValueError, match=r"cannot write to .* Make room there, or choose another folder"),
        ):
            results.add(GOOD_RUN | {"seed": 1})
        with no_file_above(50), pytest.raises(InvalidValueError, match="cannot write to"):
            results.add_step({"run": "x", "step": 1})
    assert (tmp_path / "results.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"results.json", "steps.csv"}


@pytest.mark.parametrize("kind", [OSError(28, "No space left on device"), Exception("No space left on device (os")])
def test_a_disk_that_fills_up_while_the_tokenizer_is_saved(
    home: SimpleNamespace, tmp_path: Path, failure: Any, monkeypatch: pytest.MonkeyPatch, kind: Exception
) -> None:
    pytest.importorskip("torch._dynamo")  # without it there is nothing compiled to run eagerly
    from isoscore_star.backends.torch.training.eagerly import Eagerly

    def full(*_: object, **__: object) -> None:
        raise kind  # the second as tokenizers has it, which is written in Rust

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", full)
    code, line = failure(*arguments(home, tmp_path, max_steps=1, lam=0))
    assert (code, "/model: No space left on device" in line, "Make room there" in line) == (1, True, True), line
    assert not Eagerly._begun  # the monitor of the layers is closed: compiled code is compiled again


def test_a_file_where_a_folder_belongs(home: SimpleNamespace, tmp_path: Path, failure: Any) -> None:
    (tmp_path / "runs").touch()
    code, line = failure(*arguments(home, tmp_path, max_steps=1, lam=0))
    assert (code, "output: cannot write to" in line) == (1, True), line
