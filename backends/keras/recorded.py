"""The layer that records a public function's call on symbolic tensors of Keras."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from isoscore_star.core.recordable import configured_groups, recorded_function
from isoscore_star.core.registry import backend_of


def record(function: Callable[..., Any], X: Any, arguments: Mapping[str, Any]) -> Any:
    """Call the function by a new layer, and return its symbolic scalar.

    Symbolic arguments become the layer's inputs, labels of groups and what is no array its configuration, other arrays
    its weights.
    """
    inputs: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in {"X": X, **arguments}.items():
        if any(isinstance(part, keras.KerasTensor) for part in keras.tree.flatten(value)):
            inputs[name] = value
        elif name == "groups":
            settings[name] = configured_groups(value, X)
        elif isinstance(value, keras.Variable):
            constants[name] = value
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            array = backend_of(value).to_numpy(value)
            constants[name] = keras.Variable(array, dtype=str(array.dtype), trainable=False, autocast=False)
        else:
            settings[name] = value
    layer = RecordedCall(function.__name__, settings, constants)
    return layer(inputs.pop("X"), **inputs)


@keras.saving.register_keras_serializable(package="isoscore_star")
class RecordedCall(keras.layers.Layer):  # type: ignore[misc]
    """One call of a public function inside a functional model.

    Parameters
    ----------
    function : str
        Name of the function.
    settings : dict
        Arguments that are no arrays.
    constants : dict
        Arguments that are arrays: variables, which become weights, or their shapes and dtypes.
    """

    def __init__(self, function: str, settings: dict[str, Any], constants: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.function = recorded_function(function).__name__
        self.settings = dict(settings)
        self.constants = {name: self._constant(name, value) for name, value in constants.items()}
        self.supports_masking = True

    def call(
        self, X: Any, mask: Any = None, shrinkage_cov: Any = None, zeta: Any = None, lam: Any = None, groups: Any = None
    ) -> Any:
        """Make the call; Keras passes the mask that it attached to X."""
        symbolic = {"mask": mask, "shrinkage_cov": shrinkage_cov, "zeta": zeta, "lam": lam, "groups": groups}
        arguments = {name: weight.value for name, weight in self.constants.items()}
        arguments |= {name: value for name, value in symbolic.items() if value is not None}
        return recorded_function(self.function)(X, **self.settings, **arguments)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Trace the call, with its checks; unknown sizes are those of the labels, or 2."""
        labels = self.settings.get("groups")
        union = isinstance(args[0], (list, tuple)) and len(args[0]) > 1
        sizes = np.shape(labels[0] if union else labels) if isinstance(labels, list) else ()
        args, kwargs = keras.tree.map_structure(lambda value: _with_known_shape(value, sizes), (args, kwargs))
        return super().compute_output_spec(*args, **kwargs)

    def _constant(self, name: str, value: Any) -> Any:
        if isinstance(value, keras.Variable):
            return value
        shape, dtype = value
        return self.add_weight(shape, "zeros", dtype, trainable=False, autocast=False, name=name)

    def compute_mask(self, X: Any, mask: Any = None) -> None:
        """Return None: a scalar has no rows to mask."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        constants = {name: (list(weight.shape), str(weight.dtype)) for name, weight in self.constants.items()}
        config = {"function": self.function, "settings": dict(self.settings), "constants": constants}
        return {**super().get_config(), **config}


def _with_known_shape(value: Any, sizes: tuple[int, ...]) -> Any:
    if not isinstance(value, keras.KerasTensor):
        return value
    instead = itertools.chain(sizes, itertools.repeat(2))
    shape = [other if size is None else size for size, other in zip(value.shape, instead, strict=False)]
    return keras.KerasTensor(shape, dtype=value.dtype)
