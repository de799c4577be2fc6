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
    assert any("1 rows" in note for note in scan.notes)


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
