"""Tiny models with tokenizers, made offline, and the scores of their states by formulas written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DIM = 16
WORDS = [f"w{number}" for number in range(60)]
CAUSAL, ENCODER, BOTH = "causal", "encoder", "both"


def texts(count: int = 40, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, int(rng.integers(3, 12)))) for _ in range(count)]


def tokenizer(kind: str = ENCODER) -> Any:
    """Make a tokenizer of words: an encoder's has [CLS] and [SEP], T5's </s> at the end, a decoder's no padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    names: dict[str, str] = {"unk_token": "[UNK]", "eos_token": "[SEP]"}
    if kind != CAUSAL:
        template = "[CLS] $A [SEP]" if kind == ENCODER else "$A [SEP]"
        own.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        names |= {"pad_token": "[PAD]"} | ({"cls_token": "[CLS]", "sep_token": "[SEP]"} if kind == ENCODER else {})
    return PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=32, **names)


def model(kind: str = ENCODER, seed: int = 0) -> Any:
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, T5Config, T5Model

    torch.manual_seed(seed)
    if kind == CAUSAL:
        config: Any = LlamaConfig(
            vocab_size=64, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=32,
        )  # fmt: skip
        return LlamaModel(config).eval()
    if kind == BOTH:
        config = T5Config(
            vocab_size=64, d_model=DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
            decoder_start_token_id=0, pad_token_id=0,
        )  # fmt: skip
        return T5Model(config).eval()
    config = BertConfig(
        vocab_size=64, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    return BertModel(config).eval()


def save(folder: Path, kind: str = ENCODER, seed: int = 0) -> Path:
    model(kind, seed).save_pretrained(folder)
    tokenizer(kind).save_pretrained(folder)
    return folder


def isoscore(points: Any) -> float:
    cov = np.cov(np.asarray(points, np.float64).T)
    return (np.trace(cov) ** 2 / np.sum(cov**2) - 1) / (len(cov) - 1)


def halves_score(rows: list[Any], size: int, blocks: int) -> float:
    """Give the score of halves of sequences: batches go to blocks in turn, sequences of a block to halves in turn."""
    met, halves = [0] * blocks, ([], [])
    for sequence, states in enumerate(rows):
        block = sequence // size % blocks
        halves[met[block] % 2].append(states)
        met[block] += 1
    a, b = (np.cov(np.concatenate(half).astype(np.float64).T) for half in halves)
    return (np.trace(a) * np.trace(b) / np.sum(a * b) - 1) / (len(a) - 1)


def states_one_by_one(own: Any, tokens: Any, items: list[str]) -> list[list[Any]]:
    """Give each text's states layer by layer, of shape (t, d): one text at a time, so that there is no padding."""
    import torch

    found = []
    for text in items:
        with torch.no_grad():
            out = own(**tokens(text, return_tensors="pt"), output_hidden_states=True)
        found.append([state[0].double().numpy() for state in out.hidden_states])
    return [[of_text[layer] for of_text in found] for layer in range(len(found[0]))]
