"""The union of the states of several calls of a model, layer by layer, and the groups of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

States = Sequence[Tensor | None]


def union_of_calls(calls: Sequence[tuple[States, States]]) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return each layer's states over all calls and its mask; a layer whose states are None stays None."""
    states, masks = (list(part) for part in calls[0])
    if len(calls) == 1:
        return states, masks
    joined: dict[Any, Tensor] = {}
    for index, first in enumerate(states):
        if first is None:
            continue
        parts = [(layer[index], mask[index]) for layer, mask in calls]
        states[index] = torch.cat([part.flatten(0, -2) for part, _ in parts if part is not None])
        # Layers that share a mask share the joined one, which the score then reads once.
        key = tuple((id(mask), part.shape[:-1]) for part, mask in parts if part is not None)
        if key not in joined:
            joined[key] = torch.cat([kept(part, mask).flatten() for part, mask in parts if part is not None])
        masks[index] = joined[key]
    return states, masks


def kept(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return a Boolean mask of the states that count, also for a mask that is None."""
    return states.new_ones(states.shape[:-1], dtype=torch.bool) if mask is None else mask != 0


def groups_of_calls(calls: Sequence[States], rows_of_example: int = 1) -> Any:
    """Return the groups of the union of several calls: what each example of the batch gave, in all calls and layers.

    Row i of one call and row i of another belong together, as anchor and positive do, and so do the rows of an example
    that has several, as the choices of a question.
    """
    if len(calls) == 1 and rows_of_example == 1:
        return 0
    labels: dict[Any, Any] = {}
    groups = []
    for index in range(len(calls[0])):
        shapes = tuple(tuple(part.shape[:-1]) for layers in calls if (part := layers[index]) is not None)
        if shapes and shapes not in labels:
            rows = [np.indices(shape)[0] // rows_of_example for shape in shapes]
            labels[shapes] = rows[0] if len(calls) == 1 else np.concatenate([part.reshape(-1) for part in rows])
        groups.append(labels.get(shapes))
    return groups
