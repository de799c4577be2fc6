"""What passes through a SentenceTransformer while a loss runs: the token states of every layer, with their mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star._errors import InvalidValueError
from isoscore_star.backends.torch_layers import select_layers


def inner(model: nn.Module) -> nn.Module:
    """Find the model inside DistributedDataParallel and torch.compile's wrappers."""
    while isinstance(inside := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inside
    return model


def configs(model: nn.Module) -> list[Any]:
    """Give the configurations of the transformers in a model (a Router has several)."""
    transformers: list[Any] = [getattr(module, "auto_model", None) for module in inner(model).modules()]
    found = [transformer.config for transformer in transformers if hasattr(transformer, "config")]
    if not found:
        raise InvalidValueError(
            "model: there is no transformer in it, so there are no token states. For sentence embeddings of other "
            "models add isoscore_star.istar_loss in a loss of your own"
        )
    return found


@contextmanager
def _returning_hidden_states(model: nn.Module) -> Iterator[None]:
    """Let the transformer return its states; the setting is its user's, and saved with it, so it is put back."""
    chosen = configs(model)
    before = [config.output_hidden_states for config in chosen]
    try:
        for config in chosen:
            config.output_hidden_states = True
        yield
    finally:
        for config, value in zip(chosen, before, strict=True):
            config.output_hidden_states = value


@contextmanager
def hidden_states(model: nn.Module) -> Iterator[list[tuple[Any, Any, bool]]]:
    """Collect (states of all layers, mask, whether with gradients) of each pass through the model."""
    passes: list[tuple[Any, Any, bool]] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        states = output.get("all_layer_embeddings") if isinstance(output, Mapping) else None
        # Losses over several dimensions or layers call the model again for states that they have cached.
        if states is not None and not any(states[-1] is known[-1] for known, _, _ in passes):
            passes.append((states, output.get("attention_mask"), torch.is_grad_enabled()))

    # On the outermost wrapper, since inside of a compiled one hooks that are added later do not run.
    handle = model.register_forward_hook(keep)
    try:
        with _returning_hidden_states(model):
            yield passes
    finally:
        handle.remove()


def with_gradients(passes: list[tuple[Any, Any, bool]], loss: nn.Module) -> list[tuple[Any, Any]]:
    if not passes:
        raise InvalidValueError(
            f"loss: {type(loss).__name__} did not call the model given to IStarLoss, or that returns no states of its "
            "layers. Give both the same model"
        )
    kept = [(states, mask) for states, mask, with_grad in passes if with_grad or not torch.is_grad_enabled()]
    if not kept:
        raise _no_gradient(type(loss).__name__)
    return kept


def by_layer(
    passes: list[tuple[Any, Any]], layers: Sequence[int] | None
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Give each layer's states over all passes, and a mask for each; a layer that is not chosen is None."""
    if len(passes) == 1:
        states, mask = passes[0]
        return list(states), [mask] * len(states)
    count, first = len(passes[0][0]), passes[0][0][-1]
    kept = [
        first.new_ones(states[-1].shape[:-1], dtype=torch.bool) if mask is None else mask for states, mask in passes
    ]
    for (states, _), mask in zip(passes, kept, strict=True):
        _require_shape(mask, states[-1])
    together: list[Tensor | None] = [None] * count
    for index in select_layers(passes[0][0], layers=layers, skip_embeddings=True).indices:
        together[index] = torch.cat([states[index].flatten(0, -2) for states, _ in passes])
    return together, [torch.cat([mask.flatten() != 0 for mask in kept])] * count


def _require_shape(mask: Tensor, states: Tensor) -> None:
    if mask.shape != states.shape[:-1]:
        raise InvalidValueError(
            f"attention_mask: expected shape {tuple(states.shape[:-1])}, that of the token states; got "
            f"{tuple(mask.shape)}"
        )


def embed(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    with _returning_hidden_states(model):
        output = model(batch)
    return output["all_layer_embeddings"], output.get("attention_mask")


def refuse_gradient_cache(loss: nn.Module) -> None:
    for module in loss.modules():
        name = type(module).__name__
        # The attribute is that of newer versions, the name that of older ones.
        if getattr(module, "uses_gradient_cache", name.startswith("Cached")):
            raise _no_gradient(name)


def _no_gradient(name: str) -> InvalidValueError:
    return InvalidValueError(
        f"loss: {name} caches gradients. It embeds without gradients first, and again in its backward pass, so a "
        "penalty on these states would have a value but no gradient. Take the loss that does not cache "
        "(MultipleNegativesRankingLoss for CachedMultipleNegativesRankingLoss, "
        "MegaBatchMarginLoss(use_mini_batched_version=False)), with gradient checkpointing if memory is short"
    )
