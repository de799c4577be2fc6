"""Keras 3: variables and symbolic tensors.

Keras computes through TensorFlow, torch or JAX (KERAS_BACKEND): the value of a variable goes to the native backend of
that framework. A call on a symbolic tensor, which has no value, is recorded in the functional model. Inside a model
tensors are the framework's own, with its own backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import keras
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.protocol import Backend, Invariants, Pair

FRAMEWORKS = {
    "tensorflow": "isoscore_star.backends.tensorflow.backend",
    "torch": "isoscore_star.backends.torch.backend",
    "jax": "isoscore_star.backends.jax",
    "numpy": "isoscore_star.backends.numpy",
}

_OWN = (keras.Variable, keras.KerasTensor)


class KerasBackend(Backend):
    """Computes by the backend of the framework that Keras runs on, in that one's precision."""

    name = "keras"

    def __init__(self) -> None:
        chosen = keras.backend.backend()
        if chosen not in FRAMEWORKS:
            raise InvalidValueError(
                "KERAS_BACKEND",
                f"expected one of {', '.join(FRAMEWORKS)}; Keras runs on {chosen}, which has no "
                "isotropy here. Set another before Keras is imported",
            )
        self.framework: Backend = import_module(FRAMEWORKS[chosen]).BACKEND
        self.flushes_subnormals = self.framework.flushes_subnormals
        self.slices_from_unknown = self.framework.slices_from_unknown
        self.takes = (chosen,)

    def owns(self, array: object) -> bool:
        """Return whether the array is a variable, a symbolic tensor, or the framework's."""
        return isinstance(array, _OWN) or self.framework.owns(array)

    def dtype_name(self, array: Any) -> str:
        return str(array.dtype) if isinstance(array, _OWN) else self.framework.dtype_name(array)

    def accept(self, name: str, array: Any) -> Any:
        return array if isinstance(array, _OWN) else self.framework.accept(name, array)

    def recorder(self, X: Any) -> str | None:
        """Return the module that records calls on symbolic tensors of a functional model."""
        clouds = X if isinstance(X, (list, tuple)) else [X]
        symbolic = any(isinstance(cloud, keras.KerasTensor) for cloud in clouds)
        return "isoscore_star.backends.keras.recorded" if symbolic else None

    def points(self, array: Any) -> Any:
        return self.framework.points(_value(array))

    def mask(self, mask: Any, like: Any) -> Any:
        return self.framework.mask(_value(mask), _value(like))

    def constant(self, array: Any, like: Any) -> Any:
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
        return self.framework.invariants(clouds, masks, shrinkage_cov, fourth_order=fourth_order, across=across)

    def pair(
        self,
        clouds: Sequence[Any],
        masks: Sequence[Any],
        other_clouds: Sequence[Any],
        other_masks: Sequence[Any],
        *,
        across: Any = None,
    ) -> Pair:
        return self.framework.pair(clouds, masks, other_clouds, other_masks, across=across)

    def anchored(
        self, clouds: Sequence[Any], masks: Sequence[Any], shrinkage_cov: Any, *, across: Any = None
    ) -> Invariants:
        return self.framework.anchored(clouds, masks, shrinkage_cov, across=across)

    def place(self, across: Any) -> tuple[Any, Any]:
        return self.framework.place(across)

    def in_turn(self, array: Any, axis: int, start: Any) -> tuple[Any, Any]:
        return self.framework.in_turn(_value(array), axis, start)

    def waits_for(self, array: Any) -> bool:
        return self.framework.waits_for(_value(array))

    def numbered(self, count: Any, array: Any, across: Any) -> tuple[Any, Any]:
        return self.framework.numbered(count, _value(array), across)

    def every_second(self, array: Any, axis: int, start: Any) -> Any:
        return self.framework.every_second(_value(array), axis, start)

    def some_along(self, array: Any, axis: int, most: int, total: Any) -> Any:
        return self.framework.some_along(_value(array), axis, most, total)

    def size(self, array: Any, axis: int) -> Any:
        return self.framework.size(_value(array), axis)

    def numbers_along(self, array: Any, axis: int) -> Any:
        return self.framework.numbers_along(_value(array), axis)

    def distinct(self, numbers: Sequence[Any], masks: Sequence[Any], like: Any) -> Any:
        return self.framework.distinct(numbers, masks, _value(like))

    def flat(self, labels: Any) -> Any:
        return self.framework.flat(_value(labels))

    def covariance_sums(self, cov: Any) -> tuple[Any, Any]:
        return self.framework.covariance_sums(_value(cov))

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return self.framework.where(condition, a, b)

    def concrete(self, scalar: Any) -> float | None:
        return self.framework.concrete(_value(scalar))

    def to_numpy(self, array: Any) -> NDArray[Any]:
        return self.framework.to_numpy(_value(array))

    def result(self, score: Any) -> Any:
        return self.framework.result(score)


def _value(array: Any) -> Any:
    if isinstance(array, keras.KerasTensor):
        raise InvalidTypeError(
            "X",
            f"a symbolic tensor of Keras ({array.name}, shape {array.shape}) has no values yet. The scores and "
            "istar_loss can be recorded in a functional model, all else takes the arrays that a model gives",
        )
    return array.value if isinstance(array, keras.Variable) else array


BACKEND = KerasBackend()
