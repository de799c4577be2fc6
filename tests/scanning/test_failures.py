"""One clear line for whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tiny_scanned as tiny  # noqa: E402

from isoscore_star.byte_sizes import bytes_of  # noqa: E402


def test_nan_names_the_layer(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path), tiny.texts(24)
    own = tiny.model()
    with torch.no_grad():
        own.encoder.layer[1].output.dense.bias[3] = float("nan")
    with pytest.raises(iso.InvalidValueError, match="layer 2: its states hold NaN or inf"):
        iso.scan(own, items, tokenizer=tiny.tokenizer())
    assert iso.scan(folder, items).layers


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("CUDA out of memory. Tried"), "out of memory with batch size 4: give --batch-size 2"),
        (MemoryError(), "out of memory with batch size 4"),
        (IndexError("index 99 is out of range"), "BertModel fails on this input: index 99 is out of range"),
    ],
)
def test_what_a_model_raises(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def forward(*_: Any, **__: Any) -> Any:
        raise error

    own = tiny.model()
    monkeypatch.setattr(own.encoder, "forward", forward)
    with pytest.raises(iso.InvalidValueError, match=message):
        iso.scan(own, tiny.texts(45), tokenizer=tiny.tokenizer())


def test_model_without_hidden_states() -> None:
    own = tiny.model()

    class Silent(type(own)):  # type: ignore[misc]
        def forward(self, *given: Any, **more: Any) -> Any:
            return type("Outputs", (dict,), {})()

    own.__class__ = Silent
    with pytest.raises(iso.InvalidValueError, match="Silent returns no hidden states"):
        iso.scan(own, tiny.texts(24), tokenizer=tiny.tokenizer())


def test_remote_code_is_never_run(tmp_path: Path) -> None:
    tiny.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.MyModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(iso.InvalidValueError, match="needs Python code that comes with it, which is never run"):
        iso.scan(tmp_path, tiny.texts(24))


def without(file: Path, part: str, new: str | None = None) -> None:
    """Take the weights of a part out of a file, or give them another name."""
    safetensors = pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(file)
    found = [key for key in weights if part in key]
    assert found
    for key in found:
        weight = weights.pop(key)
        if new is not None:
            weights[key.replace(part, new)] = weight
    safetensors.save_file(weights, file, {"format": "pt"})


def test_weights_that_are_missing(tmp_path: Path) -> None:
    without(tiny.save(tmp_path) / "model.safetensors", "layer.1.output.dense")
    with pytest.raises(iso.InvalidValueError, match="lacks 2 of the weights"):
        iso.scan(tmp_path, tiny.texts(24))


def test_weights_of_a_sentence_transformer_that_are_missing(tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers")
    tiny.save(tmp_path / "bert")
    layers = package.sentence_transformer.modules if hasattr(package, "sentence_transformer") else package.models
    modules = [layers.Transformer(str(tmp_path / "bert")), layers.Pooling(tiny.DIM, "mean")]
    package.SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "pooled"))
    without(tmp_path / "pooled" / "model.safetensors", "layer.1.output.dense")
    with pytest.raises(iso.InvalidValueError, match="lacks 2 of the weights"):
        iso.scan(tmp_path / "pooled", tiny.texts(24))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's
@pytest.mark.parametrize("how", ["left out", "of another module"])
def test_weights_of_an_adapter_that_are_missing(tmp_path: Path, how: str) -> None:
    peft = pytest.importorskip("peft")
    base = transformers.AutoModel.from_pretrained(tiny.save(tmp_path / "base"))
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    without(file, "layer.1.attention", "layer.9.attention" if how == "of another module" else None)
    with pytest.raises(iso.InvalidValueError, match=r"the adapter .* does not fit .*missing adapter keys"):
        iso.scan(tmp_path / "adapter", tiny.texts(24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [7]}, "there is no layer 7; there are 3"),
        ({"layers": ["encoder*"]}, "'encoder\\*' fits no layer"),
        ({"dtype": "int8"}, "expected one of float32"),
        ({"device": "cuda:99"}, "cannot be used here"),
        ({"batch_size": 0}, "batch_size: expected an integer from 1"),
        ({"memory": "much"}, "expected a number of bytes"),
        ({"memory": "1kB"}, r"3 layers of 16 dimensions take .* in 8 blocks.*--layers.*--memory"),
        ({"images": "here"}, "expected texts, images or batches"),
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(iso.InvalidValueError, match=message):
        iso.scan(tiny.save(tmp_path), tiny.texts(45), **options)


def test_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star.pretrained import hub

    monkeypatch.setattr(hub, "has_model", lambda name: False)
    for name in (str(tmp_path / "nothing"), str(tmp_path), "./nothing"):
        with pytest.raises(iso.InvalidValueError, match=r"there is no folder|holds no usable model"):
            iso.scan(name, ["a text"])


def test_a_memory_budget_takes_fewer_blocks(tmp_path: Path) -> None:
    folder, items = tiny.save(tmp_path), tiny.texts(400)
    scan = iso.scan(folder, items, memory="600kB")
    assert any("blocks instead of 20" in note for note in scan.notes)
    count = len(scan.layers[0].blocks()["rest"])
    assert 8 <= count < 20
    whole = iso.scan(folder, items)
    assert scan.layers[1].measurement.score == pytest.approx(whole.layers[1].measurement.score, rel=1e-9)
    assert scan.layers[1].measurement.standard_error is not None


def test_few_texts_give_scores_without_errors(tmp_path: Path) -> None:
    scan = iso.scan(tiny.save(tmp_path), tiny.texts(6))
    assert scan.layers[0].measurement.unbiased_score is not None
    assert scan.layers[0].measurement.standard_error is None
    assert any("too few for standard errors" in note for note in scan.notes)


def test_cut_texts_are_told(tmp_path: Path) -> None:
    scan = iso.scan(tiny.save(tmp_path), ["w1 w2 w3 w4 w5 w6", *["w1 w2"] * 7, *tiny.texts(16)], max_tokens=5)
    assert any("reach the limit of 5 tokens" in note for note in scan.notes)


@pytest.mark.parametrize(("text", "expected"), [("8GB", 8 * 10**9), ("512 mb", 512 * 10**6), (77, 77), (None, None)])
def test_bytes(text: Any, expected: int | None) -> None:
    assert bytes_of(text) == expected


def test_a_small_memory_budget_takes_a_sketch(tmp_path: Path) -> None:
    batches = torch.arange(0, 24_000).reshape(60, 20, 20) % 97
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(97, 256), torch.nn.Linear(256, 256), torch.nn.Tanh())
    exact = iso.scan(model, batches=batches, layers=["1"])
    found = iso.scan(model, batches=batches, layers=["1"], memory="16MB")
    assert any("a sketch of 64 columns in 8 blocks" in note for note in found.notes)
    ours, its = found.layers[0].measurement, exact.layers[0].measurement
    assert ours.count == its.count
    assert ours.sketch_error is not None
    ratios = [iso.participation_ratio(one.score, 256) for one in (ours, its)]
    assert ratios[0] / ratios[1] == pytest.approx(1, abs=5 * ours.sketch_error)
    assert ours.variances == pytest.approx(its.variances, rel=1e-4)  # float32 states, in other blocks
    assert ours.standard_error is not None
    found.save(tmp_path / "scan")
    again = iso.load_scan(tmp_path / "scan")
    assert again.layers[0].measurement == ours
    with pytest.raises(iso.InvalidValueError, match="fewer columns than the 256 dimensions"):
        iso.scan(model, batches=batches, layers=["1"], sketch=256)
