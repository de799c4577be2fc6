"""A scalar that is computed only where a condition holds, in every mode of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from isoscore_star.backends.tensorflow.union import compute_dtype, custom_gradient

Tensor = Any


def only_if(condition: Tensor, function: Callable[[list[Tensor]], Tensor], clouds: Sequence[Tensor]) -> Tensor:
    """Compute a scalar function of the clouds where the condition holds, else 0 with zero gradient.

    The branch computes the gradient too, and first derivatives alone: that of a `tf.cond` whose sizes are not known
    while the graph is built cannot be compiled.
    """

    @custom_gradient
    def score(*clouds: Tensor) -> Any:
        # In the dtype of computation, so that half precision rounds the gradient once, after it is scaled.
        wide = [tf.cast(cloud, compute_dtype(cloud)) for cloud in clouds]

        def computed() -> tuple[Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(wide)
                value = function(wide)
            return value, *tape.gradient(value, wide)

        def left_out() -> tuple[Tensor, ...]:
            return tf.zeros([], wide[0].dtype), *(tf.zeros_like(cloud) for cloud in wide)

        value, *slopes = tf.cond(condition, computed, left_out)

        def gradient(g: Tensor) -> list[Tensor]:
            return [tf.cast(g * slope, cloud.dtype) for slope, cloud in zip(slopes, clouds, strict=True)]

        return value, gradient

    return score(*clouds)
