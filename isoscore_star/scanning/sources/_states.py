"""Hidden states of a model of transformers, as layers with names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.scanning._batches import Layer, Tokens
from isoscore_star.scanning.sources._options import chosen_layers

EMBEDDINGS = "embeddings"
"""What the name of an embedding layer ends with; the union of layers leaves it out."""

_KINDS = {"hidden_states": "", "encoder_hidden_states": "encoder ", "decoder_hidden_states": "decoder "}


def layers_of(
    model: Any,
    outputs: Any,
    tokens: Mapping[str, Tokens],
    wanted: Sequence[int | str] | None,
    refit: Callable[[Any, Tokens], Tokens],
) -> list[Layer]:
    """Return the layers of a model's outputs.

    Parameters
    ----------
    model : PreTrainedModel
        The model.
    outputs : ModelOutput
        Of a call with ``output_hidden_states=True``.
    tokens : mapping of str to Tokens
        Of each stream: ``""``, or ``"encoder "`` and ``"decoder "``.
    wanted : sequence, optional
        See `chosen_layers`.
    refit : callable
        Returns tokens for states of another length than the tokens have.

    Raises
    ------
    InvalidValueError
        If the model gives no hidden states.
    """
    found: list[tuple[str, Any, Tokens]] = []
    for key, prefix in _KINDS.items():
        states = outputs.get(key) if hasattr(outputs, "get") else getattr(outputs, key, None)
        if states is None or prefix not in tokens:
            continue
        # Every transformer of the library returns the embeddings first; a few have none to return.
        depth = getattr(model.config, "num_hidden_layers", None)
        first = 1 if len(states) == depth else 0
        names = [f"{prefix}{f'layer {i}' if i else EMBEDDINGS}" for i in range(first, first + len(states))]
        found += [(name, state, tokens[prefix]) for name, state in zip(names, states, strict=True)]
    if not found:
        raise InvalidValueError(
            "model",
            f"{type(model).__name__} returns no hidden states. From Python give it with batches and the names of its "
            'layers: isoscore_star.scan(model, batches=loader, layers=["encoder.layer.*"])',
        )
    layers = []
    for place in chosen_layers([name for name, _, _ in found], wanted):
        name, state, its_tokens = found[place]
        state = sequence_of(state)
        if tuple(state.shape[:2]) != its_tokens.mask.shape:
            its_tokens = refit(state, its_tokens)
        layers.append(Layer(name, widened(state), its_tokens))
    return layers


def sequence_of(state: Any) -> Any:
    """Return states of shape (b, t, d); those of images may be (b, d, height, width)."""
    return state.flatten(2).transpose(1, 2) if state.ndim == 4 else state


def widened(state: Any) -> Any:
    """Return states in float32 or better: on CUDA as a tensor, else as an array of NumPy.

    Apple's devices have no float64, so their states are summed on the host.
    """
    import torch

    state = state.detach()
    if state.dtype != torch.float64:
        state = state.to(torch.float32)
    return state if state.device.type == "cuda" else state.cpu().numpy()
