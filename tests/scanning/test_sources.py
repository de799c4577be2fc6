"""Every kind of model that a scan reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tiny_scanned as tiny  # noqa: E402

ROUNDING = 2e-5


def test_encoder_and_decoder(tmp_path: Path) -> None:
    items = tiny.texts(24)
    scan = iso.scan(tiny.save(tmp_path, tiny.BOTH), items)
    sides = ("encoder", "decoder")
    assert [layer.name for layer in scan.layers] == [
        f"{side} {name}" for side in sides for name in ("embeddings", "layer 1", "layer 2")
    ]
    own, tokens = tiny.model(tiny.BOTH), tiny.tokenizer(tiny.BOTH)
    states: dict[str, list[Any]] = {side: [] for side in sides}
    for text in items:
        ids = tokens(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():  # the decoder's inputs by the model's own function, as in training
            out = own(input_ids=ids, decoder_input_ids=own._shift_right(ids), output_hidden_states=True)
        for side in sides:
            states[side].append([state[0].double().numpy() for state in out[f"{side}_hidden_states"]])
    for layer in scan.layers:
        side, _, name = layer.name.partition(" ")
        place = 0 if name == "embeddings" else int(name[-1])
        points = np.concatenate([of_text[place] for of_text in states[side]])
        assert layer.measurement.score == pytest.approx(tiny.isoscore(points), rel=ROUNDING)
    first = next(layer for layer in scan.layers if layer.name == "decoder layer 1")
    left = np.concatenate([of_text[1][1:] for of_text in states["decoder"]])
    assert first.without["first tokens"].score == pytest.approx(tiny.isoscore(left), rel=ROUNDING)


def test_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(24):
        picture = image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8))
        picture.save(tmp_path / "images" / f"{number:02}.png")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
    )
    own = transformers.ViTModel(config).eval()
    own.save_pretrained(tmp_path / "vit")
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16})
    processor.save_pretrained(tmp_path / "vit")
    scan = iso.scan(tmp_path / "vit", images=tmp_path / "images")
    pictures = [image.open(tmp_path / "images" / f"{number:02}.png") for number in range(24)]
    with torch.no_grad():
        states = own(**processor(pictures, return_tensors="pt"), output_hidden_states=True).hidden_states
    assert [layer.name for layer in scan.layers] == ["embeddings", "layer 1", "layer 2"]
    for layer, state in zip(scan.layers, states, strict=True):
        assert layer.measurement.count == 24 * 17
        assert layer.measurement.score == pytest.approx(tiny.isoscore(state.flatten(0, 1)), rel=ROUNDING)
        patches = state[:, 1:].flatten(0, 1)
        assert layer.without["first tokens"].score == pytest.approx(tiny.isoscore(patches), rel=ROUNDING)
    assert scan.provenance["sequences"] == 24


def test_sentence_transformer_in_a_folder_and_loaded(tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers")
    tiny.save(tmp_path / "bert")
    layers = package.sentence_transformer.modules if hasattr(package, "sentence_transformer") else package.models
    transformer = layers.Transformer(str(tmp_path / "bert"))
    modules = [transformer, layers.Pooling(tiny.DIM, "mean"), layers.Normalize()]
    own = package.SentenceTransformer(modules=modules, device="cpu")
    own.save(str(tmp_path / "pooled"))
    items = tiny.texts(40)
    scan = iso.scan(tmp_path / "pooled", items)
    assert scan.embeddings is not None
    embeddings = own.encode(items)
    assert scan.embeddings.measurement.count == 40
    assert scan.embeddings.measurement.score == pytest.approx(tiny.isoscore(embeddings), rel=ROUNDING)
    assert [layer.name for layer in scan.layers] == ["embeddings", "layer 1", "layer 2"]
    again = iso.scan(own, items)
    assert again.layers[2].measurement.score == pytest.approx(scan.layers[2].measurement.score, rel=1e-9)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's
def test_adapter(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    tiny.save(tmp_path / "base")
    torch.manual_seed(1)
    base = transformers.AutoModel.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)
    adapted = peft.get_peft_model(base, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    items = tiny.texts(24)
    scan = iso.scan(tmp_path / "adapter", items)
    rows = tiny.states_one_by_one(adapted, tiny.tokenizer(), items)[2]
    assert scan.layers[2].measurement.score == pytest.approx(tiny.isoscore(np.concatenate(rows)), rel=ROUNDING)
    plain = tiny.states_one_by_one(tiny.model(), tiny.tokenizer(), items)[2]
    assert scan.layers[2].measurement.score != pytest.approx(tiny.isoscore(np.concatenate(plain)), rel=1e-3)


def test_loaded_model_with_its_tokenizer(tmp_path: Path) -> None:
    items = tiny.texts(24)
    named = iso.scan(tiny.save(tmp_path), items, layers=[-1])
    loaded = iso.scan(tiny.model(), items, tokenizer=tiny.tokenizer(), layers=["layer 2"])
    assert [layer.name for layer in named.layers] == [layer.name for layer in loaded.layers] == ["layer 2"]
    assert named.layers[0].measurement.score == pytest.approx(loaded.layers[0].measurement.score, rel=1e-12)
    assert named.union is None
    with pytest.raises(iso.InvalidValueError, match="needs its tokenizer"):
        iso.scan(tiny.model(), items)


def test_torch_module_with_batches_and_masks() -> None:
    torch.manual_seed(0)
    encoder = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)])

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = encoder

        def forward(self, states: Any, attention_mask: Any = None) -> Any:
            for step in self.steps:
                states = step(states)
            return states

    rng = np.random.default_rng(0)
    batches = []
    for _ in range(10):
        states = torch.as_tensor(rng.normal(size=(4, 6, 8)), dtype=torch.float32)
        lengths = torch.as_tensor(rng.integers(2, 7, 4))
        batches.append({"states": states, "attention_mask": (torch.arange(6) < lengths[:, None]).long()})
    scan = iso.scan(Model(), batches=batches, layers=["steps.0", "steps.2"])
    assert [layer.name for layer in scan.layers] == ["steps.0", "steps.2"]
    assert scan.union is None  # of 8 and 4 dimensions
    with torch.no_grad():
        points = [encoder[0](batch["states"])[batch["attention_mask"].bool()] for batch in batches]
    assert scan.layers[0].measurement.score == pytest.approx(tiny.isoscore(torch.cat(points)), rel=ROUNDING)
    with torch.no_grad():
        mask = [batch["attention_mask"].bool() for batch in batches]
        later = [encoder[0](batch["states"])[:, 1:][keep[:, 1:]] for batch, keep in zip(batches, mask, strict=True)]
    first = scan.layers[0].without["first tokens"]
    assert first.score == pytest.approx(tiny.isoscore(torch.cat(later)), rel=ROUNDING)


def test_keras_model(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32")
    states = keras.layers.Dense(8, activation="tanh", name="hidden")(
        keras.layers.Embedding(30, 6, name="embed")(inputs)
    )
    own = keras.Model(inputs, keras.layers.Dense(1)(states))
    batches = [np.random.default_rng(number).integers(0, 30, (6, 5)) for number in range(8)]
    scan = iso.scan(own, batches=batches, layers=["hidden"])
    points = np.concatenate([keras.ops.convert_to_numpy(keras.Model(inputs, states)(batch)) for batch in batches])
    expected = tiny.isoscore(points.reshape(-1, 8))
    assert scan.layers[0].measurement.score == pytest.approx(expected, rel=ROUNDING)
    with pytest.raises(iso.InvalidValueError, match="name the layers"):
        iso.scan(own, batches=batches)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    keras = pytest.importorskip("keras")
    inputs = keras.Input((5,), dtype="int32")
    states = keras.layers.Embedding(30, 6, name="embed")(inputs)
    own = keras.Model(inputs, states)
    batches = [np.arange(30).reshape(6, 5)] * 3
    with pytest.raises(iso.InvalidValueError, match=r"of \(6, 5\) sequences and tokens, the mask is of shape \(6, 4\)"):
        iso.scan(own, batches=batches, layers=["embed"], mask=lambda batch: np.ones((6, 4)))


def test_flax_module() -> None:
    pytest.importorskip("flax")
    import jax
    from flax import linen

    class Own(linen.Module):
        @linen.compact
        def __call__(self, ids: Any) -> Any:
            states = linen.Embed(30, 6, name="embed")(ids)
            for number in range(2):
                states = linen.tanh(linen.Dense(8, name=f"layer_{number}")(states))
            return linen.Dense(1, name="head")(states)

    batches = [np.random.default_rng(number).integers(0, 30, (6, 5)) for number in range(8)]
    variables = Own().init(jax.random.PRNGKey(0), batches[0])
    scan = iso.scan(Own().bind(variables), batches=batches, layers=["layer_*"], mask=lambda ids: np.asarray(ids) != 3)
    weights = jax.tree_util.tree_map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    ids = np.concatenate(batches)
    states = weights["embed"]["embedding"][ids]
    assert [layer.name for layer in scan.layers] == ["layer_0", "layer_1"]
    for layer in scan.layers:
        own = weights[layer.name]
        states = states @ own["kernel"] + own["bias"]
        assert layer.measurement.count == np.count_nonzero(ids != 3)
        assert layer.measurement.score == pytest.approx(tiny.isoscore(states[ids != 3]), rel=ROUNDING)
        states = np.tanh(states)
    with pytest.raises(iso.InvalidValueError, match=r"name the layers.*embed, head, layer_0, layer_1"):
        iso.scan(Own().bind(variables), batches=batches)
    with pytest.raises(iso.InvalidValueError, match=r"bind\(variables\)"):
        iso.scan(Own(), batches=batches, layers=["layer_*"])


def test_other_models_are_told_how_to_go_on() -> None:
    with pytest.raises(iso.InvalidTypeError, match=r"isoscore_star\.Moments"):
        iso.scan(object(), ["a text"])
    with pytest.raises(iso.InvalidTypeError, match=r"such as one of flax\.nnx.*isoscore_star\.Moments"):
        iso.scan(object(), batches=[1])
