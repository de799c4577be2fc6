"""Selection of a model's hidden states and their masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from torch import Tensor

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError


class Layers(NamedTuple):
    """Selected layers: their indices, states and masks."""

    indices: list[int]
    states: list[Tensor]
    masks: list[Any]


def select_layers(
    hidden_states: Any,
    attention_mask: Any = None,
    *,
    layers: Sequence[int] | None = None,
    skip_embeddings: bool = False,
) -> Layers:
    """Select layers from one tensor, or from a model's ``hidden_states``.

    Parameters
    ----------
    hidden_states : Tensor or sequence of Tensor or None
        Entries that are None are skipped.
    attention_mask : array, or sequence of arrays or None, optional
        One mask for all entries, or one for each.
    layers : sequence of int, optional
        Indices of the entries, negative ones counted from the end; all by default.
    skip_embeddings : bool, default False
        Without `layers`, leave out the first entry.

    Returns
    -------
    Layers
        At least one.

    Raises
    ------
    InvalidValueError
        If masks and entries differ in number, an index does not exist, repeats another (as -1 and 1 of two) or selects
        None, or nothing is left.
    """
    states = list(hidden_states) if isinstance(hidden_states, Sequence) else [hidden_states]
    masks = list(attention_mask) if isinstance(attention_mask, Sequence) else [attention_mask] * len(states)
    if len(masks) != len(states):
        raise InvalidValueError(
            "attention_mask",
            f"expected one mask, or one for each of the {len(states)} entries of hidden_states; got {len(masks)}",
        )
    for state in states:
        if not (state is None or isinstance(state, Tensor)):
            raise InvalidTypeError(
                "hidden_states",
                f"expected tensors of torch, or None for entries to skip; got {type(state).__name__}. "
                "Convert by torch.as_tensor",
            )
    indices = list(range(1 if skip_embeddings else 0, len(states)))
    if layers is not None:
        indices = _indices(layers, states)
    indices = [index for index in indices if states[index] is not None]
    if not indices:
        raise InvalidValueError(
            "hidden_states",
            "no layer is left to measure (None entries do not count"
            + (", nor does the first with skip_embeddings=True)" if skip_embeddings and layers is None else ")"),
        )
    return Layers(indices, [states[index] for index in indices], [masks[index] for index in indices])


def checked_layers(layers: Any) -> tuple[int, ...] | None:
    """Require distinct integers, at least one, or None."""
    if layers is None:
        return None
    integers = isinstance(layers, Iterable) and not isinstance(layers, (str, bytes))
    if not (integers and all(isinstance(i, Integral) and not isinstance(i, bool) for i in layers)):
        raise InvalidTypeError(
            "layers",
            f"expected a list of integers, the places of hidden states; got {layers!r}. For one layer give [-1]",
        )
    places = tuple(int(layer) for layer in layers)
    if not places or len(set(places)) < len(places):
        raise InvalidValueError("layers", f"expected at least one place, none of them twice; got {layers!r}")
    return places


def _indices(layers: Sequence[int], states: list[Any]) -> list[int]:
    """Return the indices, from 0, of entries that exist and are distinct."""
    chosen: dict[int, int] = {}
    for layer in layers:
        if not -len(states) <= layer < len(states):
            raise InvalidValueError(
                "layers",
                f"there is no entry {layer}; hidden_states has {len(states)} (0 to {len(states) - 1}, of which a "
                "transformer's first is the embedding layer)",
            )
        index = layer % len(states)
        if states[index] is None:
            raise InvalidValueError("layers", f"entry {layer} of hidden_states is None; let the model return it")
        if index in chosen:
            raise InvalidValueError(
                "layers",
                f"{chosen[index]} and {layer} are the same entry {index} of hidden_states, which would count "
                "twice. Leave one of them out",
            )
        chosen[index] = layer
    return list(chosen)
