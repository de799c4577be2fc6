"""The hidden states and masks of a transformers model's calls, whose outputs stay the same for others."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.backends.torch import HiddenStates, StateMasks
from isoscore_star.integrations.huggingface._calls import Call

NAMES = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")


class ModelStates:
    """Collects a model's hidden states, by ``output_hidden_states=True`` or by forward hooks.

    Parameters
    ----------
    trained, model : nn.Module
        The Trainer's model, and the same without wrappers.
    modules : str, nn.Module, or sequence of them, optional
        Use hooks on these modules; see `HiddenStates`.
    mask : str, callable or False, optional
        See `StateMasks`.
    """

    def __init__(self, trained: nn.Module, model: nn.Module, modules: Any, mask: Any = None) -> None:
        self.trained = trained
        self.masks = StateMasks(model, mask, option="istar_mask")
        self.hooks: HiddenStates | None = None
        self._signature = inspect.signature(model.forward)
        self._config = getattr(model, "config", None)
        kinds = [parameter.kind for parameter in self._signature.parameters.values()]
        returns_states = "output_hidden_states" in self._signature.parameters or inspect.Parameter.VAR_KEYWORD in kinds
        if modules is not None or not returns_states:
            self.hooks = HiddenStates(model, modules)
            self.hooks.recording = False

    @contextlib.contextmanager
    def watching(self, model: nn.Module, only_with: Sequence[str] = ()) -> Iterator[list[Call | IsoScoreError]]:
        """Collect the calls of a model in a with block, and the errors of calls without states.

        With `only_with`, a call counts if it has one of these arguments.
        """
        watched = _Watch(self, tuple(only_with))
        # On the wrapper, so that compiled code contains no hook and DDP gets the states among the outputs. Prepended to
        # the hooks whose recording it turns on.
        handles = [
            model.register_forward_pre_hook(watched.before, prepend=True, with_kwargs=True),
            model.register_forward_hook(watched.after, with_kwargs=True),
        ]
        try:
            yield watched.calls
        finally:
            for handle in handles:
                handle.remove()
            if self.hooks is not None:
                self.hooks.recording = False
                self.hooks.clear()

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments of a call of the model by name."""
        return {**(self._signature.bind_partial(*args).arguments if args else {}), **kwargs}

    def configured(self, name: str, default: bool) -> bool:
        """Return an option of the model's configuration."""
        return bool(getattr(self._config, name, default))

    def call(self, outputs: Any, arguments: Mapping[str, Any]) -> Call:
        """Return states and masks of a call."""
        examples = next((len(value) for value in arguments.values() if isinstance(value, Tensor) and value.ndim), None)
        # As in transformers, where attention stays within the sequences of a packed row if there is no mask.
        positions = arguments.get("position_ids") if arguments.get("attention_mask") is None else None
        if self.hooks is not None:
            states: list[Tensor | None] = list(self.hooks.take())
            masks = self.masks(states, arguments, outputs, names=self.hooks.taken)
            return Call(states, masks, examples, positions=positions)
        stacks = _stacks(outputs) if isinstance(outputs, Mapping) else {}
        if not stacks:
            raise InvalidValueError(
                "model",
                "what it returned holds no hidden states, although output_hidden_states=True was asked for. "
                'Give istar_modules= (names of its layers, such as "encoder.layer.*"), and hooks will take them',
            )
        states = [state for stack in stacks.values() for state in stack]
        names = [name for name, stack in stacks.items() for _ in stack]
        later = tuple(index for index in range(1, len(names)) if names[index] != names[index - 1])
        masks = self.masks(states, arguments, outputs, names=names)
        return Call(states, masks, examples, later, positions=positions)


def _stacks(outputs: Mapping[str, Any]) -> dict[str, list[Tensor | None]]:
    """Return the layers' states by name: of the model, of encoder and decoder, or of towers (as in CLIP)."""
    given = {name: outputs.get(name) for name in NAMES}
    if given["hidden_states"] is not None:
        given = {"hidden_states": given["hidden_states"]}
    elif not any(given.values()):
        given = {name: part.get("hidden_states") for name, part in outputs.items() if isinstance(part, Mapping)}
    return {name: list(states) for name, states in given.items() if states}


def _without_states(outputs: Any) -> Any:
    kept = {name: value for name, value in outputs.items() if name not in NAMES}
    return type(outputs)(
        **{name: _without_states(value) if isinstance(value, ModelOutput) else value for name, value in kept.items()}
    )


class _Watch:
    """The two hooks around a model's calls."""

    def __init__(self, source: ModelStates, only_with: tuple[str, ...]) -> None:
        self.source = source
        self.only_with = only_with
        self.calls: list[Call | IsoScoreError] = []
        self._counts = self._states_wanted = self._tuple_wanted = False

    def before(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        given = self.source.arguments(args, kwargs)
        self._counts = not self.only_with or any(given.get(name) is not None for name in self.only_with)
        hooks = self.source.hooks
        if hooks is not None:
            hooks.recording = self._counts
        if not self._counts or hooks is not None:
            return None
        configured = self.source.configured
        states, as_dict = given.get("output_hidden_states"), given.get("return_dict")
        self._states_wanted = configured("output_hidden_states", False) if states is None else bool(states)
        self._tuple_wanted = not (configured("return_dict", True) if as_dict is None else as_dict)
        changed = {**kwargs, "output_hidden_states": True}
        return args, {**changed, "return_dict": True} if self._tuple_wanted else changed

    def after(self, model: nn.Module, args: Any, kwargs: dict[str, Any], outputs: Any) -> Any:
        if not self._counts:
            return None
        try:
            self.calls.append(self.source.call(outputs, self.source.arguments(args, kwargs)))
        except IsoScoreError as error:  # raised where λ is known; its traceback would keep the states in memory
            self.calls.append(error.with_traceback(None))
        if self.source.hooks is not None:
            self.source.hooks.recording = False
            return None
        if not self._states_wanted:
            outputs = _without_states(outputs)
        return outputs.to_tuple() if self._tuple_wanted else outputs
