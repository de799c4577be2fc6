"""Public functions whose calls a functional model can record as layers; a saved layer finds its function by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from numbers import Integral
from typing import Any, TypeVar

from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.protocol import Backend
from isoscore_star.core.registry import backend_of

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FUNCTIONS: dict[str, Callable[..., Any]] = {}


def recordable(function: _Function) -> _Function:
    """Register a function of points."""
    _FUNCTIONS[function.__name__] = function
    return function


def recorded_function(name: str) -> Callable[..., Any]:
    """Return the function registered under a name."""
    if name not in _FUNCTIONS:
        raise InvalidValueError("function", f"expected one of {', '.join(map(repr, _FUNCTIONS))}; got {name!r}")
    return _FUNCTIONS[name]


def record(function: Callable[..., Any], backend: Backend, X: Any, arguments: Mapping[str, Any]) -> Any:
    """Record a call as a layer if X is a placeholder of a functional model; else return NotImplemented."""
    recorder = backend.recorder(X)
    if recorder is None:
        return NotImplemented
    parameters = inspect.signature(function).parameters
    given = {name: value for name, value in arguments.items() if value is not parameters[name].default}
    return import_module(recorder).record(function, X, given)


def configured_groups(groups: Any, X: Any) -> Any:
    """Return `groups` as a model's configuration keeps it: labels as lists, for several clouds one for each.

    As weights they would have no values while a graph is built, and so no number.
    """
    if groups is None or isinstance(groups, (str, bool)):
        return groups
    if isinstance(groups, Integral):
        return int(groups)
    if isinstance(groups, (list, tuple)):
        return [_as_list(part) for part in groups]
    clouds = len(X) if isinstance(X, (list, tuple)) else 1
    return [_as_list(groups)] * clouds if clouds > 1 else _as_list(groups)


def _as_list(labels: Any) -> Any:
    if isinstance(labels, (str, int)):
        return labels
    if isinstance(labels, (list, tuple)):
        return [_as_list(part) for part in labels]
    array = backend_of(labels, "groups").to_numpy(labels)
    return (array.astype(str) if array.dtype.kind in "OS" else array).tolist()
