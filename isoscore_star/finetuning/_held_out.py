"""Isotropy and intrinsic dimension of a model's token states of held-out text."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, IsoScoreError, Moments
from isoscore_star.diagnostics import two_nn_dimension
from isoscore_star.finetuning._encoding import Encoded
from isoscore_star.finetuning._memory import out_of_memory
from isoscore_star.pretrained import first_line

NEIGHBOURS = 2000
"""Token states at most from which the intrinsic dimension is estimated; its cost grows with their square."""

NO_SKDIM = (
    "Left out: the intrinsic dimension needs scikit-dimension, which is not installed: "
    'pip install "isoscore-star[diagnostics]"'
)


@dataclass(frozen=True)
class HeldOut:
    """Scores of the union of all layers but the embedding layer, and of each layer; None where one is undefined.

    The unbiased one is that of two halves of the examples.
    """

    isoscore_star: float | None
    isoscore_star_unbiased: float | None
    isoscore_star_by_layer: list[float | None]  # the embedding layer first
    intrinsic_dimension: float | None  # of the last layer
    intrinsic_dimension_by_layer: list[float | None]
    tokens: int  # of each layer
    notes: list[str]  # why numbers are missing


def measure_held_out(model: Any, encoded: Encoded, collate: Callable[[Any], Any], batch_size: int) -> HeldOut:
    """Measure every layer's token states, batch by batch, without padding."""
    total = sum(len(example["input_ids"]) for example in encoded)
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:NEIGHBOURS])
    moments: list[Moments] = []
    union = Moments()
    samples: list[list[NDArray[Any]]] = []
    seen = 0
    try:
        for states, examples in _token_states(model, encoded, collate, batch_size):
            moments = moments or [Moments() for _ in states]
            samples = samples or [[] for _ in states]
            count = len(states[0])
            here = chosen[np.searchsorted(chosen, seen) : np.searchsorted(chosen, seen + count)] - seen
            for points, layer, sample in zip(states, moments, samples, strict=True):
                layer.update(points)
                sample.append(points[here].astype(np.float64))
            # In one update, so that the tokens of an example stay in one half in all layers.
            union.update(states[1:], groups=examples)
            seen += count
    except IsoScoreError as error:
        if not moments:
            raise
        # A run that diverged is a result, and does not end the sweep.
        nothing: list[float | None] = [None] * len(moments)
        return HeldOut(None, None, nothing, None, nothing, total, [f"Not measured: {error}"])
    measures = importlib.util.find_spec("skdim") is not None
    dimensions = [
        _defined(partial(two_nn_dimension, np.concatenate(sample))) if measures else None for sample in samples
    ]
    return HeldOut(
        _defined(union.isoscore),
        _defined(union.isoscore_unbiased),
        [_defined(layer.isoscore) for layer in moments],
        dimensions[-1],
        dimensions,
        total,
        [] if measures else [NO_SKDIM],
    )


def _defined(score: Callable[[], float]) -> float | None:
    try:
        return score()
    except IsoScoreError:  # too few different tokens
        return None


def require_states(model: Any, encoded: Encoded, collate: Callable[[Any], Any]) -> None:
    """Require, before any training, a model that takes the examples and whose states can be measured."""
    longest = max(encoded, key=lambda example: len(example["input_ids"]))
    largest = max(encoded, key=lambda example: max(example["input_ids"]))
    for example in (longest, largest):
        try:
            states, _ = next(_token_states(model, [example], collate, 1))
        except (IndexError, ValueError, RuntimeError) as error:
            if isinstance(error, IsoScoreError) or out_of_memory(error):
                raise
            places, entries = (getattr(model.config, n, "?") for n in ("max_position_embeddings", "vocab_size"))
            raise InvalidValueError(
                "model",
                f"{type(model).__name__} cannot take an example of {len(example['input_ids'])} tokens, the "
                f"largest of them {max(example['input_ids'])}: {first_line(error)}. It has {places} places, to which a "
                f"smaller --max-length cuts examples off, and {entries} tokens, which have to be its tokenizer's",
            ) from error
        if len(states) < 2:
            raise InvalidValueError("model", f"{type(model).__name__} has no layers but the embeddings")
        if not all(np.isfinite(layer).all() for layer in states):
            raise InvalidValueError(
                "model",
                f"the states of {type(model).__name__} are not finite before any training: its weights are "
                "damaged. Fetch or save the model anew",
            )


@torch.no_grad()
def _token_states(
    model: Any, encoded: Encoded, collate: Callable[[Any], Any], batch_size: int
) -> Iterator[tuple[list[NDArray[Any]], NDArray[np.int64]]]:
    """Return each batch's token states, an array of shape (tokens, d) for each layer, and the tokens' examples."""
    device = next(model.parameters()).device
    model.eval()
    by_length = sorted(encoded, key=lambda example: len(example["input_ids"]))
    for start in range(0, len(by_length), batch_size):
        examples = by_length[start : start + batch_size]
        batch = collate([{name: example[name] for name in example if name != "labels"} for example in examples])
        inputs = {name: value.to(device) for name, value in batch.items()}
        states = getattr(model(**inputs, output_hidden_states=True), "hidden_states", None)
        if states is None:
            raise InvalidValueError(
                "model",
                f"{type(model).__name__} returns no hidden_states; encoders and decoders do, models of both do not",
            )
        mask = inputs["attention_mask"].bool()
        yield [layer[mask].float().cpu().numpy() for layer in states], mask.nonzero()[:, 0].cpu().numpy()
