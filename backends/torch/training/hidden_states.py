"""`HiddenStates`: a torch model's hidden states, by forward hooks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star.backends.torch._compat import in_backward_pass
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError


class HiddenStates:
    """Collects the outputs of layers, for models that do not return their hidden states.

    Parameters
    ----------
    model : nn.Module
        The model. Without gradients only the last call's states are kept.
    layers : str, nn.Module, or sequence of them, optional
        Names as in ``model.named_modules()``, in which ``*`` matches within one part of a name (``"encoder.layer.*"``
        is every layer, but nothing inside one), or modules. By default the model's list of layers, if it has one.

    Attributes
    ----------
    names : list of str
        Names of the layers that have hooks.
    recording : bool
        Set it to False to ignore calls of the model.
    training_only : bool
        Set it to True to ignore modules in evaluation mode, and to delete what a call of the model left when the next
        one begins.
    in_call : bool
        Whether a call of the model began since the last `take`; after one that raised, the states are of a part of it.
    refused : callable or None
        Set it to a function that is told of an output that is no tensor, instead of an exception in the model's call.
    taken : list of str
        Names of the layers of the states in the last `take`, for `StateMasks`.

    Raises
    ------
    InvalidValueError
        If a name matches nothing (close names are listed), a module is no part of the model, or, without `layers`,
        the model has no list of layers or several.
    InvalidTypeError
        If `layers` holds anything else, or a layer's output is no tensor.

    Notes
    -----
    `take` returns the tensors (of a tuple the first entry) with their gradient, in the order of the calls: one for each
    call of a module. For BERT-like encoders they equal ``hidden_states[1:]`` of ``output_hidden_states=True``. GPT-2,
    Llama and other models with a final norm return the last of these after that norm; to get that, hook the norm.

    Gradient checkpointing runs layers again in the backward pass; those runs are not recorded.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import HiddenStates
    >>> layers = [torch.nn.Linear(8, 8) for _ in range(3)]
    >>> model = torch.nn.Sequential(*layers)
    >>> with HiddenStates(model, ["0", "1"]) as states:
    ...     output = model(torch.randn(16, 8))
    ...     [tuple(layer.shape) for layer in states.take()]
    [(16, 8), (16, 8)]
    """

    def __init__(self, model: nn.Module, layers: Any = None) -> None:
        if not isinstance(model, nn.Module):
            raise InvalidTypeError("model", f"expected a torch module; got {type(model).__name__}")
        hooked = _find(model, layers)
        self.names = list(hooked.values())
        self.recording = True
        self.training_only = False
        self.in_call = False
        self.refused: Callable[[InvalidTypeError], None] | None = None
        self.taken: list[str] = []
        self._states: list[tuple[str, Tensor]] = []
        self._with_grad = torch.is_grad_enabled()
        self._cut_off: str | None = None
        self._handles: list[Any] = [model.register_forward_pre_hook(_Hook(self, None))]
        self._handles += [layer.register_forward_hook(_Hook(self, name)) for layer, name in hooked.items()]

    def take(self, *, need_gradient: bool = True) -> list[Tensor]:
        """Return the states of the calls since the last `take`, and delete them here.

        Parameters
        ----------
        need_gradient : bool, default True
            Refuse states without a gradient of a model that was called with gradients. Who only measures needs none.

        Returns
        -------
        list of Tensor
            In the order in which the layers were called.

        Raises
        ------
        InvalidValueError
            If there are none, or if they carry no gradient although the model was called with gradients, as inside a
            reentrant checkpoint.
        """
        if not self._handles:
            raise InvalidValueError("states", "the hooks were removed by close() or at the end of the with block")
        states, cut_off = [state for _, state in self._states], self._cut_off
        self.taken = [name for name, _ in self._states]
        self.clear()
        if not states:
            raise InvalidValueError(
                "states",
                f"none of the {len(self.names)} layers ({_listed(self.names)}) ran since the last take(). "
                "Call the model before, with recording=True",
            )
        if need_gradient and cut_off is not None and not any(state.requires_grad for state in states):
            raise InvalidValueError(
                "states",
                f"{cut_off} ran without gradients inside a model called with them, so a loss on its states "
                "would change nothing. Checkpoint with use_reentrant=False, or hook the checkpointed layer itself",
            )
        return states

    @property
    def has_states(self) -> bool:
        """Whether a layer ran since the last `take`."""
        return bool(self._states)

    def clear(self) -> None:
        """Delete the states."""
        self._states, self._cut_off, self.in_call = [], None, False
        # Layers may run without a call of the model, whose hook sets it.
        self._with_grad = torch.is_grad_enabled()

    def close(self) -> None:
        """Remove the hooks and delete the states."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.clear()

    def __enter__(self) -> HiddenStates:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HiddenStates({_listed(self.names)})"

    def _begin(self) -> None:
        # Calls with gradients add up until `take` (a pair of sentences is two calls), others would through a whole
        # evaluation.
        with_grad = torch.is_grad_enabled()
        if self.training_only or not (with_grad and self._with_grad):
            self.clear()
        self._with_grad, self.in_call = with_grad, True

    def _record(self, name: str, output: Any) -> None:
        state = _first(output)
        if not isinstance(state, Tensor):
            raise InvalidTypeError(
                "layers",
                f"{name!r} puts out {type(state).__name__}, not a tensor. Choose a layer that gives its "
                "hidden states first",
            )
        if state.is_nested:
            raise InvalidTypeError(
                "layers",
                f"{name!r} puts out a nested tensor, which no mask fits, as nn.TransformerEncoder does in "
                "evaluation. Call torch.backends.mha.set_fastpath_enabled(False) before",
            )
        if self._with_grad and not torch.is_grad_enabled():
            self._cut_off = name
        self._states.append((name, state))


class _Hook:
    """A hook whose copies, in a copied or saved model, do nothing."""

    def __init__(self, states: HiddenStates | None = None, name: str | None = None) -> None:
        self.states = states
        self.name = name

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> None:
        if self.states is None or not self.states.recording or in_backward_pass():
            return
        if self.states.training_only and not module.training:
            return
        if self.name is None:
            self.states._begin()
        else:
            try:
                self.states._record(self.name, output)
            except InvalidTypeError as error:
                if self.states.refused is None:
                    raise
                self.states.refused(error)

    def __reduce__(self) -> Any:
        return _Hook, ()


def _first(output: Any) -> Any:
    if isinstance(output, Mapping):
        return next(iter(output.values()), None)
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _find(model: nn.Module, layers: Any) -> dict[nn.Module, str]:
    """Return the chosen modules with their names, without duplicates, in the given order."""
    names = dict(model.named_modules(remove_duplicate=False))
    if layers is None:
        layers = _own_list(names)
    elif isinstance(layers, (str, nn.Module)) and not isinstance(layers, nn.ModuleList):
        layers = [layers]
    if not isinstance(layers, Iterable):
        raise InvalidTypeError("layers", f"expected names, modules or a sequence of them; got {type(layers).__name__}")
    chosen: dict[nn.Module, str] = {}
    for layer in layers:
        for name in _matching(layer, names):
            chosen.setdefault(names[name], name)
    if not chosen:
        raise InvalidValueError("layers", "expected at least one name or module; got none")
    return chosen


def _matching(layer: Any, names: dict[str, nn.Module]) -> list[str]:
    if isinstance(layer, nn.Module):
        matches = [name for name, module in names.items() if module is layer][:1]
        if not matches:
            raise InvalidValueError("layers", f"the {type(layer).__name__} that was given is no part of the model")
        return matches
    if not isinstance(layer, str):
        raise InvalidTypeError("layers", f"expected names or modules; got {layer!r} of type {type(layer).__name__}")
    matches = [name for name in names if name and _fits(name, layer)]
    if not matches:
        raise InvalidValueError("layers", f"{layer!r} matches no module of the model. {_close_names(layer, names)}")
    return matches


def _fits(name: str, pattern: str) -> bool:
    parts, patterns = name.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _close_names(layer: str, names: Iterable[str]) -> str:
    known = [name for name in names if name]
    wanted = layer.replace("*", "0")
    ending = [name for name in known if name.endswith("." + wanted)]
    close = ending[:3] or difflib.get_close_matches(wanted, known, n=5, cutoff=0.5) or known[:5]
    return f"Close names: {_listed(close)}" if close else "It has no modules inside"


def _own_list(names: dict[str, nn.Module]) -> list[nn.Module]:
    """Return the only outermost ModuleList of modules of one class that have submodules."""
    lists = {
        name: module
        for name, module in names.items()
        if isinstance(module, nn.ModuleList)
        and len({type(layer) for layer in module}) == 1
        and any(module[0].children())
    }
    outer = {n: m for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    unique: dict[nn.Module, str] = {}
    for name, module in outer.items():
        unique.setdefault(module, name)
    if len(unique) != 1:
        which = f"it has {len(unique)} ({_listed(list(unique.values()))})" if unique else "it has none"
        raise InvalidValueError(
            "layers",
            f'say which, as in layers="encoder.layer.*"; only where a model has one list of layers are they '
            f"found by themselves, and {which}",
        )
    return list(next(iter(unique)).children())


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:6])) + (", ..." if len(names) > 6 else "")
