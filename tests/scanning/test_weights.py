"""Rows of embedding matrices, from the files alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
import tiny_scanned as tiny  # noqa: E402


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_sharded_matrices(tmp_path: Path, dtype: str) -> None:
    torch.manual_seed(0)
    rows = (torch.randn(700, 12) * torch.linspace(1, 4, 12)).to(getattr(torch, dtype))
    out = torch.randn(700, 12).to(rows.dtype)
    shards = {"one.safetensors": {"model.embed_tokens.weight": rows}, "two.safetensors": {"lm_head.weight": out}}
    for name, tensors in shards.items():
        safetensors.save_file(tensors, tmp_path / name)
    places = {key: name for name, tensors in shards.items() for key in tensors}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    scan = iso.scan_weights(tmp_path, output=tmp_path / "kept")
    assert [layer.name for layer in scan.layers] == ["input embeddings", "output embeddings"]
    for layer, matrix in zip(scan.layers, (rows, out), strict=True):
        points = matrix.double().numpy()
        assert layer.measurement.count == 700
        assert layer.measurement.group_count is None
        assert layer.measurement.score == pytest.approx(tiny.isoscore(points), rel=1e-6)
        assert layer.measurement.unbiased_score == pytest.approx(iso.isoscore_unbiased(points), rel=1e-6)
        assert layer.measurement.standard_error is not None
    assert scan.union is None
    assert iso.load_scan(tmp_path / "kept").to_dict() == scan.to_dict()


def test_rows_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(300, 8)), dtype=torch.float32)
    rows[7, 2] = float("nan")
    safetensors.save_file({"wte.weight": rows}, tmp_path / "model.safetensors")
    scan = iso.scan_weights(tmp_path)
    assert scan.layers[0].measurement.count == 299
    assert any("1 row of the input embeddings with NaN" in note for note in scan.notes)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(iso.InvalidValueError, match=r"holds no \.safetensors file"):
        iso.scan_weights(tmp_path)
    safetensors.save_file({"some.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(iso.InvalidValueError, match="no embedding matrix of a known name"):
        iso.scan_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(iso.InvalidValueError, match="no whole weights"):
        iso.scan_weights(tmp_path)
    with pytest.raises(iso.InvalidValueError, match="there is no folder"):
        iso.scan_weights(tmp_path / "missing")


def _models() -> list[tuple[str, str]]:
    return [
        ("Bert", "embeddings.word_embeddings.weight"),
        ("Roberta", "embeddings.word_embeddings.weight"),
        ("DistilBert", "embeddings.word_embeddings.weight"),
        ("Electra", "embeddings.word_embeddings.weight"),
        ("Albert", "embeddings.word_embeddings.weight"),
        ("GPT2", "wte.weight"),
        ("GPTNeoX", "embed_in.weight"),
        ("CLIPText", "embeddings.token_embedding.weight"),
        ("XLM", "embeddings.weight"),
    ]


@pytest.mark.parametrize(("name", "key"), _models())
def test_the_word_embeddings_of_real_models(tmp_path: Path, name: str, key: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 90, "n_words": 90, "hidden_size": 16, "n_embd": 16, "dim": 16, "emb_dim": 16}
    sizes |= {"num_hidden_layers": 1, "n_layer": 1, "n_layers": 1, "num_attention_heads": 2, "n_head": 2, "n_heads": 2}
    sizes |= {"intermediate_size": 32, "hidden_dim": 32, "embedding_size": 16}
    names = {"GPT2": ("n_embd", "n_layer", "n_head"), "DistilBert": ("dim", "n_layers", "n_heads", "hidden_dim")}
    names["XLM"] = ("n_words", "emb_dim", "n_layers", "n_heads")
    usual = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    wanted = names.get(name, (*usual, "embedding_size") if name in ("Electra", "Albert") else usual)
    given = {"vocab_size": 90} if name != "XLM" else {}
    config = getattr(transformers, f"{name}Config")(**given, **{one: sizes[one] for one in wanted}, pad_token_id=0)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config)
    model.save_pretrained(tmp_path)
    scan = iso.scan_weights(tmp_path)
    points = model.get_input_embeddings().weight.detach().double().numpy()
    assert [layer.name for layer in scan.layers] == ["input embeddings"]
    assert any(f"{key} of " in note for note in scan.notes)
    assert scan.layers[0].measurement.count == 90
    assert scan.layers[0].measurement.score == pytest.approx(tiny.isoscore(points), rel=1e-6)


def test_packed_integers_are_refused(tmp_path: Path) -> None:
    for dtype in (torch.uint8, torch.int32, torch.bool):
        safetensors.save_file({"wte.weight": torch.ones(300, 8, dtype=dtype)}, tmp_path / "model.safetensors")
        with pytest.raises(iso.InvalidValueError, match=r"wte\.weight is of dtype .*, whose numbers are packed"):
            iso.scan_weights(tmp_path)


def test_a_matrix_of_fewer_rows_than_blocks(tmp_path: Path) -> None:
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(307, 8)), dtype=torch.float32)
    tensors = {"wte.weight": rows[:300].clone(), "lm_head.weight": rows[300:].clone()}
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    scan = iso.scan_weights(tmp_path, output=tmp_path / "kept")
    assert [layer.measurement.count for layer in scan.layers] == [300, 7]
    assert scan.layers[1].measurement.score == pytest.approx(tiny.isoscore(rows[300:].numpy()), rel=1e-6)
    assert iso.load_scan(tmp_path / "kept").to_dict() == scan.to_dict()


@pytest.mark.parametrize("shape", [(300, 0), (1, 8), (0, 8)])
def test_matrices_without_a_score(tmp_path: Path, shape: tuple[int, int]) -> None:
    safetensors.save_file({"wte.weight": torch.zeros(shape)}, tmp_path / "model.safetensors")
    with pytest.raises(iso.InvalidValueError, match="no score of it is defined"):
        iso.scan_weights(tmp_path)


def test_rows_that_are_none_of_them_finite(tmp_path: Path) -> None:
    safetensors.save_file({"wte.weight": torch.full((300, 8), float("nan"))}, tmp_path / "model.safetensors")
    with pytest.raises(iso.InvalidValueError, match="fewer than two rows without NaN"):
        iso.scan_weights(tmp_path)
