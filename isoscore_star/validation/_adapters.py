"""Arrays of each framework on each of its devices, and its gradients, for validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import get_backend


class Adapter:
    """NumPy: one device, no gradients."""

    def devices(self) -> tuple[str, ...]:
        """Return the names of the devices of this machine: ``"cpu"``, ``"cuda:0"``, ..."""
        return ("cpu",)

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Copy to a dtype and a device by their names; raise TypeError if the dtype does not exist."""
        if np.dtype(dtype).isbuiltin != 1:  # dtypes that other packages register, such as bfloat16
            raise TypeError(f"NumPy itself has no dtype {dtype}")
        return array.astype(dtype)

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Return a scalar function's value at X, and its gradient or None."""
        return function(X), None


class AutogradAdapter(Adapter):
    """autograd."""

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Differentiate by the tape."""
        from autograd import value_and_grad

        value, gradient = value_and_grad(function)(X)
        return value, gradient


class TorchAdapter(Adapter):
    """PyTorch on the CPU, every CUDA device, and MPS."""

    def devices(self) -> tuple[str, ...]:
        """Return the devices' names."""
        import torch

        cuda = (f"cuda:{index}" for index in range(torch.cuda.device_count()))
        return ("cpu", *cuda, *(("mps",) if torch.backends.mps.is_available() else ()))

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Convert on the host, then copy to the device."""
        import torch

        return torch.tensor(array, dtype=getattr(torch, dtype)).to(device)

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Differentiate at a new leaf."""
        import torch

        leaf = X.detach().requires_grad_()
        value = function(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient


class TensorFlowAdapter(Adapter):
    """TensorFlow on its logical devices."""

    def devices(self) -> tuple[str, ...]:
        """Return the devices' names: ``"cpu"``, ``"cpu:1"``, ``"gpu:0"``, ..."""
        return tuple(self._devices())

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Convert on the device."""
        import tensorflow as tf

        with tf.device(self._devices()[device]):
            return tf.cast(tf.constant(array), dtype)

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Differentiate by a tape."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(X)
            value = function(X)
        return value, tape.gradient(value, X)

    def _devices(self) -> dict[str, str]:
        import tensorflow as tf

        names = {f"{d.device_type}:{d.name.rsplit(':')[-1]}".lower(): d.name for d in tf.config.list_logical_devices()}
        return {"cpu" if name == "cpu:0" else name: device for name, device in names.items()}


class JaxAdapter(Adapter):
    """JAX on the devices of this process, with float64 even where it is not enabled."""

    def devices(self) -> tuple[str, ...]:
        """Return the devices' names: ``"cpu"``, ``"cpu:1"``, ``"gpu:0"``, ..."""
        return tuple(self._devices())

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Convert on the host, then copy to the device."""
        import jax
        import jax.numpy as jnp

        with self._enabled(dtype):
            return jax.device_put(array.astype(jnp.dtype(dtype)), self._devices()[device])

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Differentiate, in float64 if that is X's dtype."""
        import jax

        with self._enabled(X.dtype.name):
            value, gradient = jax.value_and_grad(function)(X)
        return value, gradient

    def _devices(self) -> dict[str, Any]:
        import jax

        return {"cpu": jax.local_devices(backend="cpu")[0]} | {
            f"{device.platform}:{device.id}": device
            for device in jax.local_devices()
            if (device.platform, device.id) != ("cpu", 0)
        }

    def _enabled(self, dtype: str) -> Any:
        import jax
        import jax.numpy as jnp

        # In jax.experimental before 0.8 (jax-ml/jax#32429); this can go with Python 3.10, whose last JAX is 0.6.2.
        switch: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
        return switch.enable_x64(dtype == "float64" or jnp.result_type(float) == jnp.float64)


class KerasAdapter(Adapter):
    """Keras' variables, on the framework below."""

    def devices(self) -> tuple[str, ...]:
        """Return the framework's devices."""
        return self._framework().devices()

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Make a variable."""
        import keras

        value = self._framework().native(array, dtype, device)
        with keras.device(device):
            return keras.Variable(value, dtype=dtype, trainable=False)

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Differentiate in the framework, where the variable takes an array's value."""
        import keras

        def of_array(array: Any) -> Any:
            with keras.StatelessScope(state_mapping=[(X, array)]):
                return function(X)

        return self._framework().value_and_gradient(of_array, X.value)

    def _framework(self) -> Adapter:
        (name,) = get_backend("keras").takes
        return ADAPTERS[name]


ADAPTERS: dict[str, Adapter] = {
    "numpy": Adapter(),
    "autograd": AutogradAdapter(),
    "torch": TorchAdapter(),
    "tensorflow": TensorFlowAdapter(),
    "jax": JaxAdapter(),
    "keras": KerasAdapter(),
}
"""Adapters by the backend's name; another party adds one here to have its backend validated."""
