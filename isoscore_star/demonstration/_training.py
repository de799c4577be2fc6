"""A small classifier of each token's topic, with I-STAR on its hidden representation (torch)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

import isoscore_star as iso
from isoscore_star.backends.torch import IStarLoss
from isoscore_star.demonstration._comparison import Run
from isoscore_star.sample import Sample

LAYER = 3  # the middle one, whose token states are classified
HIDDEN = 64
TRAINING_SENTENCES = 40
SENTENCES_PER_BATCH = 8
EPOCHS = 12
LEARNING_RATE = 1e-3


class TopicClassifier(nn.Module):
    """Two layers: token state, hidden representation (regularized), topic."""

    def __init__(self, dim: int, topics: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(dim, HIDDEN), nn.Tanh())
        self.classify = nn.Linear(HIDDEN, topics)


def train(sample: Sample, lam: float, seed: int) -> Run:
    """Train on the first 40 sentences, and evaluate on the other 20 after each epoch."""
    states, mask = torch.from_numpy(sample.states[LAYER].astype(np.float32)), torch.from_numpy(sample.mask)
    topics = torch.from_numpy(sample.labels)[:, None].expand(mask.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TopicClassifier(states.shape[-1], len(sample.label_names))
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    penalty = IStarLoss(HIDDEN, lam, estimator="unbiased")
    held_out = states[TRAINING_SENTENCES:], mask[TRAINING_SENTENCES:], topics[TRAINING_SENTENCES:]
    curve = [_evaluate(model, *held_out)]
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAINING_SENTENCES, generator=order).view(-1, SENTENCES_PER_BATCH):
            hidden = model.encode(states[batch])
            logits = model.classify(hidden)[mask[batch]]
            loss = nn.functional.cross_entropy(logits, topics[batch][mask[batch]]) + penalty(hidden, mask[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        curve.append(_evaluate(model, *held_out))
    scores, accuracies = zip(*curve, strict=True)
    return Run(lam, seed, scores, accuracies)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: more would not be faster for products this small, and would order sums differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _evaluate(model: TopicClassifier, states: Tensor, mask: Tensor, topics: Tensor) -> tuple[float, float]:
    hidden = model.encode(states)
    predicted = model.classify(hidden).argmax(-1)
    return float(iso.isoscore_unbiased(hidden, mask=mask)), float((predicted == topics)[mask].double().mean())
