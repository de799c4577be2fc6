"""The token states of every layer of a SentenceTransformer, with their masks, while a loss runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.backends.torch import StateMasks, select_layers
from isoscore_star.integrations._shared.union import groups_of_calls, union_of_calls
from isoscore_star.integrations.sentence_transformers._compat import ASKED, unwrapped


def configs(model: nn.Module) -> list[Any]:
    """Return the configurations of the transformers in a model (a Router has several)."""
    transformers: list[Any] = [getattr(module, "auto_model", None) for module in unwrapped(model).modules()]
    with_config = [transformer.config for transformer in transformers if hasattr(transformer, "config")]
    if not with_config:
        raise InvalidValueError(
            "model",
            "there is no transformer in it, so there are no token states. For sentence embeddings of other "
            "models add isoscore_star.istar_loss in a loss of your own",
        )
    return with_config


@contextmanager
def _returning_hidden_states(model: nn.Module) -> Iterator[None]:
    """Configure the transformer to return its states, and restore the setting, which is saved with the model."""
    chosen = configs(model)
    before = [config.output_hidden_states for config in chosen]
    try:
        for config in chosen:
            config.output_hidden_states = True
        yield
    finally:
        for config, value in zip(chosen, before, strict=True):
            config.output_hidden_states = value


class Pass(NamedTuple):
    """One call of the model: the states of all layers and their masks, and whether gradients were enabled."""

    states: list[Tensor]
    masks: list[Tensor | None]
    with_grad: bool


@contextmanager
def watching(model: nn.Module, mask: StateMasks) -> Iterator[list[Pass | IsoScoreError]]:
    """Collect each pass through the model, and the errors of passes without states."""
    passes: list[Pass | IsoScoreError] = []

    def ask(module: nn.Module, args: Any) -> None:
        args[0][ASKED] = True

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        args[0].pop(ASKED, None)
        try:
            states = _states_of(output)
            # Losses over several dimensions or layers call the model again for cached states.
            if not any(isinstance(known, Pass) and states[-1] is known.states[-1] for known in passes):
                passes.append(Pass(states, mask(states, output, output), torch.is_grad_enabled()))
        except IsoScoreError as error:  # raised where λ is known; its traceback would keep the states in memory
            passes.append(error.with_traceback(None))

    # On the outermost wrapper, since hooks added inside a compiled one do not run (pytorch/pytorch#117758).
    handles = [model.register_forward_pre_hook(ask), model.register_forward_hook(keep)]
    try:
        with _returning_hidden_states(model):
            yield passes
    finally:
        for handle in handles:
            handle.remove()


def _states_of(output: Any) -> list[Tensor]:
    states = output.get("all_layer_embeddings") if isinstance(output, Mapping) else None
    if not states:
        raise InvalidValueError(
            "model",
            "it returned no states of its layers, although output_hidden_states=True was asked for. Its "
            "transformer has to hand that on and return hidden_states",
        )
    return list(states)


def with_gradients(passes: Sequence[Pass | IsoScoreError], loss: nn.Module) -> list[Pass]:
    """Return the passes of a loss that carry a gradient, or all where gradients are disabled."""
    if not passes:
        raise InvalidValueError(
            "loss", f"{type(loss).__name__} did not call the model given to IStarLoss. Give both the same model"
        )
    kept = []
    for one in passes:
        if isinstance(one, IsoScoreError):
            raise one
        if one.with_grad or not torch.is_grad_enabled():
            kept.append(one)
    if not kept:
        raise _no_gradient(type(loss).__name__)
    return kept


def by_layer(passes: Sequence[Pass], penalty: Any) -> tuple[list[Tensor | None], list[Tensor | None], Any]:
    """Return each layer's states over all passes, a mask for each, and the groups: the rows of a batch's columns.

    A layer that is not chosen is None.
    """
    groups = groups_of_calls([one.states for one in passes])
    if len(passes) == 1:  # the penalty chooses the layers
        return list(passes[0].states), passes[0].masks, groups
    chosen = select_layers(passes[0].states, layers=penalty.layers, skip_embeddings=penalty.skip_embeddings).indices
    states, masks = union_of_calls(
        [([s if i in chosen else None for i, s in enumerate(one.states)], one.masks) for one in passes]
    )
    return states, masks, groups


def embed(model: Any, batch: dict[str, Any], mask: StateMasks) -> tuple[Any, Any]:
    """Return states and masks of a batch."""
    with watching(model, mask) as passes:
        model(batch)
    (one,) = passes
    if isinstance(one, IsoScoreError):
        raise one
    return one.states, one.masks


def refuse_gradient_cache(loss: nn.Module) -> None:
    """Require a loss that does not cache gradients."""
    for module in loss.modules():
        if getattr(module, "uses_gradient_cache", False):
            raise _no_gradient(type(module).__name__)


def _no_gradient(name: str) -> InvalidValueError:
    return InvalidValueError(
        "loss",
        f"{name} caches gradients. It embeds without gradients first, and again in its backward pass, so a "
        "penalty on these states would have a value but no gradient. Take the loss that does not cache "
        "(MultipleNegativesRankingLoss for CachedMultipleNegativesRankingLoss, "
        "MegaBatchMarginLoss(use_mini_batched_version=False)), with gradient checkpointing if memory is short",
    )
