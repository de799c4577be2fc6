"""A tiny BERT, two files of sentences and labels, and the words of a command that fine-tunes it on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "poor", "awful", "dull")
FILLERS = ("the", "film", "is", "a", "very", "story", "actor", "plot")


def examples(count: int, seed: int) -> list[tuple[str, str]]:
    """Give sentences of 3 to 8 words, of which one tells the label."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        words = [str(word) for word in rng.choice(FILLERS, size=rng.integers(2, 8))]
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(GOOD if number % 2 else BAD)))
        found.append((" ".join(words), "pos" if number % 2 else "neg"))
    return found


def write_rows(path: Path, rows: Any, header: tuple[str, ...] | None = ("sentence", "label")) -> Path:
    lines = ["\t".join(row) for row in ([header, *rows] if header else rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_home(folder: Path) -> SimpleNamespace:
    """Make a tiny BERT with its WordPiece tokenizer, and two files of sentences and labels."""
    import torch
    import transformers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLERS]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    train = write_rows(folder / "train.tsv", examples(64, 1))
    evaluation = write_rows(folder / "dev.tsv", examples(24, 2))
    return SimpleNamespace(folder=folder, model=folder / "model", train=train, evaluation=evaluation)


def arguments(home: SimpleNamespace, output: object, *more: object, **changed: object) -> list[str]:
    options = {
        "--model": home.model, "--task": home.train, "--eval-file": home.evaluation, "--output": output,
        "--lr": 5e-3, "--batch-size": 8, "--epochs": 2, "--device": "cpu",
    }  # fmt: skip
    options |= {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return ["finetune", *words, *map(str, more)]


def read_steps(folder: Path) -> list[dict[str, str]]:
    with (folder / "steps.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_runs(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]
