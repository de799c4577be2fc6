"""The models that claims 15 and 16 measure: their layers, how much of each, and what has to hold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import isoscore_star as iso
from paper_checks._claim import Findings, NoDataError, Run
from paper_checks.claims._token_states import TokenStates, minilm_states, smollm2_states, stories_states

SENTENCES = (8, 16, 64)
"""In a batch."""

MINILM, STORIES, SMOLLM2 = "MiniLM", "stories260k", "SmolLM2-135M"

_WHY_REPORTED = {
    "layer 10": "few effective dimensions, so that the ratio of a small batch is skewed (see the note)",
    "layer 29": "a few massive tokens hold the variance, which a batch may lack (see the note)",
}


class Model(NamedTuple):
    """A model.

    Attributes
    ----------
    name, dim : str, int
        Its name, and the width of its states.
    states : callable
        Makes the states of so many sentences in these layers.
    places : mapping of str to tuple of int
        Layers of which one score is taken.
    rank : int
        Leading directions of Σ_S that the anchored loss of low rank takes.
    sentences, batches, gradients : int
        Sentences of all, batches whose score is measured, and batches whose gradient is.
    seed : tuple of int
        What the seeds of its batches have besides those of the claim, the sentences and the layers.
    why_reported : mapping of str to str
        By place, why nothing hangs on what has to hold of other models; empty if it has to hold.
    """

    name: str
    dim: int
    states: Callable[[int, tuple[int, ...]], TokenStates]
    places: Mapping[str, tuple[int, ...]]
    rank: int
    sentences: int
    batches: int
    gradients: int
    seed: tuple[int, ...] = ()
    why_reported: Mapping[str, str] = MappingProxyType({})

    def take(self) -> TokenStates:
        """Return the states of all layers of its places."""
        layers = sorted({layer for place in self.places.values() for layer in place})
        return self.states(self.sentences, tuple(layers))

    def cell(self, place: str, count: int) -> str:
        """Name the numbers of batches of so many sentences."""
        return f"{self.name}, {place}, {count} sentences"


def models_here(run: Run, found: Findings) -> Iterator[tuple[Model, TokenStates]]:
    """Give the models and their states, and note which are left out and how to get them.

    Raises
    ------
    NoDataError
        If the MiniLM, of which everything has to hold, is not here.
    """
    for model in _models(run):
        try:
            states = model.take()
        except NoDataError as missing:
            if model.name == MINILM:
                raise
            found.notes.append(f"{model.name} is left out: {missing}.")
            continue
        if model.name == SMOLLM2:
            found.notes.append(_of_massive_tokens(model, states))
        yield model, states


def _models(run: Run) -> list[Model]:
    batches = run.pick((8, 6), (60, 30))
    six, five = (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5)
    minilm = {"layer 6": (6,), "union of layers 1 to 6": six}
    stories = {"layer 5": (5,), "union of layers 1 to 5": five}
    smollm2 = {"layer 10": (10,), "layer 29": (29,)}
    models = [
        Model(MINILM, 384, minilm_states, minilm, 64, run.pick(300, 1600), *batches),
        Model(STORIES, 64, stories_states, stories, 16, run.pick(200, 1600), *batches, seed=(1,)),
        Model(SMOLLM2, 576, smollm2_states, smollm2, 64, 800, *batches, seed=(2,), why_reported=_WHY_REPORTED),
    ]
    return models[:2] if run.quick else models


def _of_massive_tokens(model: Model, states: TokenStates) -> str:
    """Say which layers these are, and what their longest states hold."""
    held = []
    for place, layers in model.places.items():
        points, groups = states.batch(states.sentences, layers)
        measured = iso.measure(points, groups=groups)
        longest = measured.longest_points
        assert longest is not None
        held.append(
            f"in {place} the {longest.count} longest of {len(points):,} states hold {longest.trace_share:.0%} of the "
            f"variance and {longest.square_share:.0%} of ‖S‖², and the score is {measured.unbiased_score:.3f} ± "
            f"{measured.standard_error:.3f}, of {measured.effective_dimensions:.0f} effective dimensions"
        )
    return (
        f"{model.name} is measured without the first token of each sentence, since massive activations sit there. "
        "Layer 10 is one whose score means something, layer 29 one of those where a few other massive tokens hold the "
        f"variance: {'; '.join(held)}. Of what a batch does not have no estimator can tell."
    )
