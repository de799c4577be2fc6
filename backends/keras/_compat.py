"""Version quirks and private names of Keras and tf_keras, each with its source and when it can go."""

from __future__ import annotations

import functools
import sys
from typing import Any

import keras
from keras import ops


@functools.cache
def divides_by_batch_size() -> bool:
    """Return whether this Keras divides an activity regularizer's value by the batch size, by trying it.

    It does since 3.14 (keras-team/keras#22018); this can go when that is the oldest supported version.
    """
    layer = keras.layers.Identity(activity_regularizer=lambda _: ops.ones(()), name="asked")
    layer(ops.zeros((2, 1)))
    return float(layer.losses[0]) < 1


def all_layers(model: Any) -> list[Any]:
    """Return the layers of a model, nested ones too; the method has no public name in 3.15."""
    return list(model._flatten_layers())


def mask_of(tensor: Any) -> Any:
    """Return the mask that Keras attached to a tensor, or None; there is no public name for that in 3.15."""
    return getattr(tensor, "_keras_mask", None)


def only_finding_shapes(clouds: list[Any]) -> bool:
    """Return whether Keras infers shapes or exports, so that a call has no values.

    ``SymbolicScope`` is public, whether it is active is not (3.15). JAX knows every size, except in an export.
    """
    if keras.backend.backend() == "jax" and any(type(size) is not int for cloud in clouds for size in cloud.shape):
        return True
    with keras.SymbolicScope() as scope:
        return scope.original_scope is not None


def inside_tf_keras(clouds: list[Any]) -> bool:
    """Return whether a tf_keras model makes this call; tf_keras 2.21 has no public name for that."""
    if "tf_keras" not in sys.modules:
        return False
    symbolic = sys.modules["tf_keras.__internal__"].KerasTensor
    calls = sys.modules["tf_keras.src.engine.base_layer_utils"].call_context()
    return bool(calls.in_call) or any(isinstance(cloud, symbolic) for cloud in clouds)
