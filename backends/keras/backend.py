"""Keras 3: variables and symbolic tensors; what people add to a Keras model stands here by name.

Keras computes through TensorFlow, torch or JAX (KERAS_BACKEND), and so does this: the value of a variable is handed to
the native backend of that framework, with its closed-form gradients. A symbolic tensor has no value yet: for one of
those the call is recorded in the functional model that is being built. Inside a model, where tensors are the
framework's own, none of this is in the way: the public functions take them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from numpy.typing import NDArray

from isoscore_star.backends.keras.recorded import record
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.registry import get_backend

FRAMEWORKS = ("tensorflow", "torch", "jax", "numpy")


class KerasBackend:
    """Everything is computed by the backend of the framework that Keras runs on, in that one's precision."""

    name = "keras"

    def __init__(self) -> None:
        chosen = keras.backend.backend()
        if chosen not in FRAMEWORKS:
            raise InvalidValueError(
                "KERAS_BACKEND",
                f"expected one of {', '.join(FRAMEWORKS)}; Keras runs on {chosen}, which has no "
                "isotropy here. Set another before Keras is imported",
            )
        self.framework = get_backend(chosen)
        self.differentiable = self.framework.differentiable
        self.distributed = self.framework.distributed
        self.flushes_subnormals = getattr(self.framework, "flushes_subnormals", False)
        self.takes: tuple[str, ...] = (chosen,)

    def owns(self, array: object) -> bool:
        """Return whether the array is a variable, a symbolic tensor, or what `keras.ops` computes with."""
        return isinstance(array, (keras.Variable, keras.KerasTensor)) or self.framework.owns(array)

    def dtype_name(self, array: Any) -> str:
        """Name the dtype."""
        if isinstance(array, (keras.Variable, keras.KerasTensor)):
            return str(array.dtype)
        return self.framework.dtype_name(array)

    def defer(self, function: Callable[..., Any], X: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record the call for symbolic tensors, in the functional model that is being built."""
        clouds = X if isinstance(X, (list, tuple)) else [X]
        if not any(isinstance(cloud, keras.KerasTensor) for cloud in clouds):
            return NotImplemented
        return record(function, X, args, kwargs)

    def points(self, array: Any) -> Any:
        """Flatten the value of a variable."""
        return self.framework.points(_value(array))

    def mask(self, mask: Any, like: Any) -> Any:
        """Flatten to booleans."""
        return self.framework.mask(_value(mask), _value(like))

    def constant(self, array: Any, like: Any) -> Any:
        """Bring to the dtype of computation and the device."""
        return self.framework.constant(_value(array), _value(like))

    def invariants(
        self,
        clouds: Sequence[Any],
        masks: Sequence[Any],
        shrinkage_cov: Any,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Let the framework compute."""
        return self.framework.invariants(clouds, masks, shrinkage_cov, fourth_order=fourth_order, across=across)

    def total(self, array: Any) -> Any:
        """Sum all entries."""
        return self.framework.total(_value(array))

    def diagonal(self, matrix: Any) -> Any:
        """Take the diagonal."""
        return self.framework.diagonal(_value(matrix))

    def detached(self, scalar: Any) -> Any:
        """Return it without gradient."""
        return self.framework.detached(_value(scalar))

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """Choose between scalars."""
        return self.framework.where(condition, a, b)

    def concrete(self, scalar: Any) -> float | None:
        """Return the value if the framework knows it."""
        return self.framework.concrete(_value(scalar))

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Copy to the host."""
        return self.framework.to_numpy(_value(array))

    def result(self, score: Any) -> Any:
        """Return what the framework gives: a tensor of its own."""
        return self.framework.result(score)

    def devices(self) -> tuple[str, ...]:
        """Name the framework's devices."""
        return self.framework.devices()

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Make a variable."""
        value = self.framework.native(array, dtype, device)
        with keras.device(device):
            return keras.Variable(value, dtype=dtype, trainable=False)

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Let the framework differentiate, with the variable standing for its array."""

        def of_array(array: Any) -> Any:
            with keras.StatelessScope(state_mapping=[(X, array)]):
                return function(X)

        return self.framework.value_and_gradient(of_array, X.value)


def _value(array: Any) -> Any:
    if isinstance(array, keras.KerasTensor):
        raise InvalidTypeError(
            "X",
            f"a symbolic tensor of Keras ({array.name}, shape {array.shape}) has no values yet. The scores and "
            "istar_loss can be recorded in a functional model, all else takes the arrays that a model gives",
        )
    return array.value if isinstance(array, keras.Variable) else array


BACKEND = KerasBackend()
