"""A file of GGUF, written by the format's own library, has the states of the model that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
import tiny_scanned as tiny  # noqa: E402

NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""The format's names of a llama's parts."""


def write(file: Path, own: Any, left_out: str = "nothing") -> None:
    config, writer = own.config, gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    pieces = ["<unk>", "<s>", "</s>", *"▁w0123456789"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * len(pieces))
    writer.add_token_types([2, 3, 3, *[1] * (len(pieces) - 3)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for name, weight in own.state_dict().items():
        layer, _, part = name.removeprefix("layers.").partition(".") if name.startswith("layers.") else ("", "", name)
        part = part.removesuffix(".weight")
        values = weight.numpy()
        if part in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp turns neighbours, transformers halves
            heads, dim = config.num_attention_heads, config.hidden_size
            values = values.reshape(heads, 2, dim // heads // 2, dim).swapaxes(1, 2).reshape(dim, dim)
        key = (f"blk.{layer}." if layer else "") + f"{NAMES[part]}.weight"
        if left_out not in key:
            writer.add_tensor(key, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    own, items = tiny.model(tiny.CAUSAL), [" ".join(text.split()[:6]) for text in tiny.texts(24)]
    write(tmp_path / "tiny.gguf", own)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    assert tokenizer.tokenize("w1 w7") == list("▁w1▁w7")
    rows = tiny.states_one_by_one(own, tokenizer, items)
    for scan in (iso.scan(tmp_path / "tiny.gguf", items), iso.scan(tmp_path, items, gguf_file="tiny.gguf")):
        for layer, states in zip(scan.layers, rows, strict=True):
            # Rounding of float32 states in batches, as in the tests of the other models.
            assert layer.measurement.score == pytest.approx(tiny.isoscore(np.concatenate(states)), rel=2e-5)


def test_weights_that_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf", tiny.model(tiny.CAUSAL), left_out="blk.1.ffn_down")
    with pytest.raises(iso.InvalidValueError, match="lacks 1 of the weights"):
        iso.scan(tmp_path, tiny.texts(24))
