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
