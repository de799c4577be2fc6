"""What the tests of I-STAR in Keras' `fit` share: a model whose loss is the penalty alone, and its step by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import isoscore_star as iso
from isoscore_star import reference

BACKEND = iso.get_backend("keras")

# Float32 through a dense layer and the loss: some hundred ε.
CLOSE = 2e-5


def numpy(x: Any) -> np.ndarray:
    return BACKEND.to_numpy(x).astype(np.float64)


def penalised(*regularizers: Any, kernel: Any = "glorot_uniform", **compiled: Any) -> Any:
    """Give a model whose task loss, and its gradient for the states, are zero: what is left is the penalty."""
    states = keras.layers.Dense(4, use_bias=False, kernel_initializer=kernel, name="states")
    silent = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)
    model = keras.Sequential([keras.Input((6,)), states, *regularizers, silent])
    model.compile(keras.optimizers.SGD(0.5), "mse", **compiled)
    return model


def zeros(points: np.ndarray) -> np.ndarray:
    return np.zeros((len(points), 1), "float32")


def states_of(model: Any, points: np.ndarray) -> np.ndarray:
    return points.astype(np.float64) @ numpy(model.get_layer("states").kernel)


def step_on(kernel: np.ndarray, points: np.ndarray, lam: float, cov: np.ndarray | None, zeta: float) -> np.ndarray:
    """Descend λ·(1 − score) of points·kernel once, by the closed form of the score's gradient, in float64."""
    states = points.astype(np.float64) @ kernel
    m, d = states.shape
    centred = states - states.mean(axis=0)
    sigma = (1 - zeta) * centred.T @ centred / (m - 1) + (0 if cov is None else zeta * cov)
    r = np.trace(sigma) / np.sum(sigma**2)
    gradient = 4 * (1 - zeta) / ((m - 1) * (d - 1)) * (r * centred - r**2 * centred @ sigma)
    return kernel + 0.5 * lam * points.T.astype(np.float64) @ gradient


def task_and_states(batches: list[np.ndarray], model: Any, lam: float, cov: Any = None, zeta: float = 0.0) -> float:
    """Mean over batches, weighted by their rows as Keras does, of λ·(1 − score)."""
    rows = [len(batch) for batch in batches]
    return float(
        np.average(
            [lam * (1 - reference.isoscore_star(states_of(model, batch), cov, zeta)) for batch in batches],
            weights=rows,
        )
    )


def loss_and_gradients(
    function: Any, states: list[Any], *, mask: Any = None, compiled: bool = False
) -> tuple[float, list[np.ndarray]]:
    """Take the loss that a layer adds (or a function of tensors gives), and its gradient for each of the states."""
    framework = keras.backend.backend()
    tensors = [keras.ops.convert_to_tensor(state) for state in states]
    masks = None if mask is None else [keras.ops.convert_to_tensor(part) for part in mask]

    def loss(*tensors: Any) -> Any:
        inputs = list(tensors) if len(tensors) > 1 else tensors[0]
        if not isinstance(function, keras.layers.Layer):
            return function(inputs)
        function(inputs, mask=masks, training=True)
        return function.losses[0]

    if isinstance(function, keras.layers.Layer) and not function.built:
        function.build([tuple(tensor.shape) for tensor in tensors] if len(tensors) > 1 else tuple(tensors[0].shape))
    if framework == "tensorflow":
        import tensorflow as tf

        def both(*tensors: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = loss(*tensors)
            return value, tape.gradient(value, tensors)

        # Of sizes that are not known while the graph is built.
        signature = [tf.TensorSpec([None] * (len(t.shape) - 1) + [t.shape[-1]], t.dtype) for t in tensors]
        value, gradients = (tf.function(both, input_signature=signature) if compiled else both)(*tensors)
    elif framework == "torch":
        import torch

        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        value = loss(*tensors)
        gradients = torch.autograd.grad(value, tensors)
    else:
        import jax

        def stateless(tensors: Any, weights: Any) -> Any:
            if not isinstance(function, keras.layers.Layer):
                return loss(*tensors), weights
            inputs = list(tensors) if len(tensors) > 1 else tensors[0]
            _, weights, losses = function.stateless_call(
                [], weights, inputs, mask=masks, training=True, return_losses=True
            )
            return losses[0], weights

        weights = [weight.value for weight in getattr(function, "non_trainable_variables", [])]
        differentiated = jax.value_and_grad(stateless, has_aux=True)
        (value, weights), gradients = (jax.jit(differentiated) if compiled else differentiated)(tensors, weights)
        for variable, weight in zip(getattr(function, "non_trainable_variables", []), weights, strict=True):
            variable.assign(weight)
    return float(numpy(value)), [numpy(gradient) for gradient in gradients]
