"""The union of the states of several calls of a model, layer by layer, and the groups of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
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


def groups_of_calls(calls: Sequence[States], rows_of_example: int = 1, positions: States = ()) -> Any:
    """Return the groups of the union of several calls: what each example of the batch gave, in all calls and layers.

    Row i of one call and row i of another belong together, as anchor and positive do, and so do the rows of an example
    that has several, as the choices of a question. Where `positions`, the tokens' positions in each call, show that
    rows hold several sequences, it is sequence i.
    """
    sequences = _packed_sequences(calls, positions)
    if sequences is not None:
        return sequences
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


def _packed_sequences(calls: Sequence[States], positions: States) -> Tensor | None:
    """Return the number of each state's sequence, which begins where positions do not go up by one; None for rows.

    A device is not waited for: there numbers are returned also if they are those of the rows.
    """
    known = [ids for ids in positions if isinstance(ids, Tensor) and ids.ndim == 2]
    if len(known) < len(calls):
        return None
    shapes = [{part.shape[:-1] for part in layers if part is not None} for layers in calls]
    if any(own != {ids.shape} for own, ids in zip(shapes, known, strict=True)):
        return None
    begins = [F.pad(ids.diff() != 1, (1, 0), value=True) for ids in known]
    if all(part.device.type == "cpu" and not part[:, 1:].any() for part in begins):
        return None
    numbers = [part.flatten().cumsum(0) - 1 + _rank() * len(part) for part in begins]
    return numbers[0].view(known[0].shape) if len(calls) == 1 else torch.cat(numbers)


def _rank() -> int:
    """Return this process's rank. Ranks count on by their rows, so that they do not all begin in the same half."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0
