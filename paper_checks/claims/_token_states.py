"""Token states of every sentence in every layer, of a MiniLM, without padding."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paper_checks.training import MINILM
from paper_checks.training._models import make_model
from paper_checks.training._tasks import load_splits

States = NDArray[np.float32]


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
