"""States and masks of a model's calls for one batch, joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.integrations._shared.penalty import penalty_of as compute
from isoscore_star.integrations._shared.union import groups_of_calls, kept, union_of_calls


class Call(NamedTuple):
    """States of one call of a model, and their masks."""

    states: list[Tensor | None]
    masks: list[Tensor | None]
    examples: int | None = None
    later: tuple[int, ...] = ()  # first states of a decoder after an encoder, or of a second tower
    groups: Any = 0  # which states an example gave; see `groups_of_calls`
    positions: Tensor | None = None  # of the tokens, where they tell which sequences a row holds


def joined(given: Sequence[Call | IsoScoreError], penalty: Any, accelerator: Any = None) -> Call:
    """Return the union of a batch's calls.

    Where the penalty leaves out the embedding layer, so are the first states of a decoder or a second tower. With an
    accelerator, the examples that it added to the last batch are masked.
    """
    if not given:
        raise InvalidValueError(
            "model",
            "compute_loss did not call the model that it was given, so there are no hidden states. Call "
            "that one, not self.model",
        )
    calls: list[Call] = []
    for call in given:
        if isinstance(call, IsoScoreError):
            raise call
        calls.append(call if accelerator is None else _without_repeated(call, accelerator))
    first = calls[0]
    if any(len(call.states) != len(first.states) for call in calls):
        raise InvalidValueError("model", "it was called several times and gave different numbers of layers")
    for place in first.later if penalty.skip_embeddings and penalty.layers is None else ():
        for call in calls:
            call.states[place] = None
    positions = [call.positions for call in calls]
    groups = groups_of_calls([call.states for call in calls], _rows_of_example(first), positions)
    states, masks = union_of_calls([(call.states, call.masks) for call in calls])
    return first._replace(states=states, masks=masks, groups=groups)


def _rows_of_example(call: Call) -> int:
    """Return how many rows of states an example has: several for multiple choice, whose inputs have an axis more."""
    rows = next((len(states) for states in call.states if states is not None), 0)
    return max(1, rows // call.examples) if call.examples else 1


def penalty_of(given: Sequence[Call | IsoScoreError], penalty: Any) -> Tensor | None:
    """Compute the penalty of a batch's calls; with λ = 0 record the score and return None."""
    call = joined(given, penalty)
    if penalty.lam == 0:
        with torch.no_grad():
            compute(penalty, call.states, call.masks, call.groups)
        return None
    if torch.is_grad_enabled() and not any(state is not None and state.requires_grad for state in call.states):
        raise InvalidValueError(
            "model",
            "its hidden states carry no gradient, so the penalty would change nothing. Are all layers "
            "frozen? Set lam=0 to log the score alone",
        )
    result: Tensor = compute(penalty, call.states, call.masks, call.groups)
    return result


def _without_repeated(call: Call, accelerator: Any) -> Call:
    """Mask the examples that accelerate added to the last batch so that all ranks have equally many."""
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return call
    masks: list[Tensor | None] = []
    for states, mask in zip(call.states, call.masks, strict=True):
        keep = mask
        if states is not None:
            keep = kept(states, mask).clone()
            examples = call.examples or len(states)
            own = max(state.remainder - accelerator.process_index * examples, 0)
            keep[own * (len(states) // examples) :] = False  # multiple choice has several rows for each example
        masks.append(keep)
    return call._replace(masks=masks)
