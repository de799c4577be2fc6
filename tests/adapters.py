"""How tests hand arrays to a backend and get values and gradients back, and what several tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("ISOSCORE_DATA", ROOT.parent / "shared" / "data"))

# Where the core's tests put torch's tensors; JAX and Keras take an accelerator of their own accord where there is one.
TORCH_DEVICE = os.environ.get("ISOSCORE_TORCH_DEVICE", "cpu")


class Adapter:
    """NumPy in, NumPy out, through one backend."""

    name = "numpy"
    differentiable = False
    half_dtypes: tuple[str, ...] = ("float16",)

    def native(self, array: np.ndarray, dtype: str | None = None) -> Any:
        """Give the array to the framework, rounded to a dtype named as NumPy would."""
        return array if dtype is None else array.astype(dtype)

    def rounded(self, array: np.ndarray, dtype: str) -> np.ndarray:
        """Give the float64 values that `native` rounds to."""
        return np.asarray(self.native(array, dtype)).astype(np.float64)

    def value(self, function: Callable[..., Any], X: Any) -> float:
        return float(function(X))

    def gradient(self, function: Callable[..., Any], X: Any) -> np.ndarray:
        raise NotImplementedError


class AutogradAdapter(Adapter):
    name = "autograd"
    differentiable = True

    def value(self, function: Callable[..., Any], X: Any) -> float:
        import autograd

        return float(autograd.value_and_grad(function)(X)[0])

    def gradient(self, function: Callable[..., Any], X: Any) -> np.ndarray:
        import autograd

        return autograd.grad(function)(X)


class TorchAdapter(Adapter):
    name = "torch"
    differentiable = True
    half_dtypes = ("float16", "bfloat16")

    def native(self, array: np.ndarray, dtype: str | None = None) -> Any:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(TORCH_DEVICE)
        return tensor if dtype is None else tensor.to(getattr(torch, dtype))

    def rounded(self, array: np.ndarray, dtype: str) -> np.ndarray:
        return self.native(array, dtype).double().cpu().numpy()

    def gradient(self, function: Callable[..., Any], X: Any) -> np.ndarray:
        leaf = X.detach().clone().requires_grad_()
        function(leaf).backward()
        return leaf.grad.double().cpu().numpy()


class TensorFlowAdapter(Adapter):
    name = "tensorflow"
    differentiable = True
    half_dtypes = ("float16", "bfloat16")

    def native(self, array: np.ndarray, dtype: str | None = None) -> Any:
        import tensorflow as tf

        tensor = tf.convert_to_tensor(array)
        return tensor if dtype is None else tf.cast(tensor, dtype)

    def rounded(self, array: np.ndarray, dtype: str) -> np.ndarray:
        import tensorflow as tf

        return tf.cast(self.native(array, dtype), tf.float64).numpy()

    def gradient(self, function: Callable[..., Any], X: Any) -> np.ndarray:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(X)
            value = function(X)
        return tf.cast(tape.gradient(value, X), tf.float64).numpy()


class JaxAdapter(Adapter):
    name = "jax"
    differentiable = True
    half_dtypes = ("float16", "bfloat16")

    def __init__(self) -> None:
        # JAX is float32 throughout unless told otherwise before its first array; the tests need float64.
        os.environ.setdefault("JAX_ENABLE_X64", "1")

    def native(self, array: np.ndarray, dtype: str | None = None) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(array, dtype=dtype)

    def rounded(self, array: np.ndarray, dtype: str) -> np.ndarray:
        return np.asarray(self.native(array, dtype)).astype(np.float64)

    def gradient(self, function: Callable[..., Any], X: Any) -> np.ndarray:
        import jax

        return np.asarray(jax.grad(function)(X)).astype(np.float64)


class KerasAdapter(Adapter):
    """Variables of Keras, on whichever of its backends was chosen (KERAS_BACKEND)."""

    name = "keras"
    differentiable = True
    half_dtypes = ("float16", "bfloat16")

    def native(self, array: np.ndarray, dtype: str | None = None) -> Any:
        import keras

        dtype = str(array.dtype) if dtype is None else dtype
        return keras.Variable(keras.ops.convert_to_tensor(array, dtype), trainable=False, dtype=dtype)

    def rounded(self, array: np.ndarray, dtype: str) -> np.ndarray:
        import keras

        return ADAPTERS[keras.backend.backend()].rounded(array, dtype)

    def gradient(self, function: Callable[..., Any], X: Any) -> np.ndarray:
        import keras

        def of_array(array: Any) -> Any:  # the variable's own place in the computation, with another value
            with keras.StatelessScope(state_mapping=[(X, array)]):
                return function(X)

        return ADAPTERS[keras.backend.backend()].gradient(of_array, X.value)


ADAPTERS = {
    adapter.name: adapter
    for adapter in (Adapter(), AutogradAdapter(), TorchAdapter(), TensorFlowAdapter(), JaxAdapter(), KerasAdapter())
}


def random_cov(rng: np.random.Generator, dim: int, spectrum: np.ndarray | None = None) -> np.ndarray:
    """Give a covariance with a given (or random) spectrum and random directions."""
    basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    values = rng.gamma(1.0, size=dim) + 0.01 if spectrum is None else spectrum
    cov = (basis * values) @ basis.T
    return (cov + cov.T) / 2


def weighted_mean(covs: list[np.ndarray], decay: float) -> np.ndarray:
    """Return the mean in which each counts `decay` times what the next one does."""
    weights = decay ** np.arange(len(covs))[::-1]
    return np.tensordot(weights / weights.sum(), np.stack(covs), 1)
