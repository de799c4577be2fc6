"""Token states of every sentence in every layer, of a MiniLM, without padding; and charts of batches of sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from paper_checks.training import MINILM
from paper_checks.training._models import make_model
from paper_checks.training._tasks import load_splits

States = NDArray[np.float32]

SENTENCES = (8, 16, 64)
PLACES = {"layer 6": [5], "union of layers 1 to 6": list(range(6))}


class TokenStates(NamedTuple):
    """States of all sentences, (layers, tokens, d), and where each sentence begins and ends."""

    states: States
    ends: NDArray[np.int64]

    def batch(self, sentences: NDArray[np.int64], layers: list[int]) -> tuple[States, NDArray[np.int64]]:
        """Return the states of some sentences in some layers, (points, d), and the sentence of each."""
        starts = np.concatenate([[0], self.ends[:-1]])
        rows = np.concatenate([np.arange(starts[i], self.ends[i]) for i in sentences])
        groups = np.repeat(np.arange(len(sentences)), (self.ends - starts)[sentences])
        points = self.states[layers][:, rows].reshape(-1, self.states.shape[-1])
        return points, np.tile(groups, len(layers))


@functools.cache
def minilm_states(sentences: int) -> TokenStates:
    """Run a MiniLM, without its new head, on the first sentences of SST-2's training set."""
    import torch

    splits = load_splits("sst2")
    model, tokenizer = make_model(MINILM, splits)
    texts = [str(text) for text in list(splits.train.texts)[:sentences]]
    parts, lengths = [], []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            tokens = tokenizer(texts[start : start + 64], padding=True, truncation=True, return_tensors="pt")
            hidden = torch.stack(model(**tokens, output_hidden_states=True).hidden_states[1:])
            keep = tokens["attention_mask"].bool()
            parts.append(hidden[:, keep].numpy())
            lengths += keep.sum(1).tolist()
    return TokenStates(np.concatenate(parts, axis=1), np.cumsum(lengths))


def cell(place: str, count: int) -> str:
    """Name the numbers of batches of so many sentences."""
    return f"{place}, {count} sentences"


def chart(names: Iterable[str], point: Callable[[str, str], tuple[float, float]], what: str) -> Any:
    """Draw mean and standard deviation of each name in each `cell`, in a panel for each place; wanted is 1."""
    figure: Any = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, place in zip(figure.subplots(1, 2, sharey=True), PLACES, strict=True):
        for name in names:
            means, widths = zip(*(point(cell(place, count), name) for count in SENTENCES), strict=True)
            axes.errorbar(SENTENCES, means, widths, marker="o", capsize=3, label=name)
        axes.axhline(1, color="0.5", linewidth=1)
        axes.set(title=place, xlabel="sentences in the batch", xscale="log")
        axes.set_xticks(SENTENCES, [str(count) for count in SENTENCES])
    figure.axes[0].set_ylabel(what)
    figure.axes[1].legend(loc="lower right")
    return figure
