"""NumPy: no gradients; the backend of everything that has ``__array__``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.moments import Moments
from isoscore_star.core.protocol import Invariants


class NumPyBackend:
    """Float32 points are multiplied in float32 and summed in float64; all other dtypes are computed in float64."""

    name = "numpy"
    differentiable = False
    distributed = False
    takes: tuple[str, ...] = ()

    def owns(self, array: object) -> bool:
        """Return whether the array is an ndarray."""
        return isinstance(array, np.ndarray)

    def dtype_name(self, array: Any) -> str:
        """Name the dtype."""
        return str(array.dtype.name)  # without the byte order

    def points(self, array: Any) -> Any:
        """Flatten to (m, d); a memory-mapped array stays on disk, so conversion is left to the blocks."""
        return array.reshape(-1, array.shape[-1])

    def mask(self, mask: Any, like: Any) -> Any:
        """Flatten to booleans."""
        return np.asarray(mask).reshape(-1) != 0

    def constant(self, array: Any, like: Any) -> Any:
        """Return the matrix in float64."""
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=np.float64)

    def invariants(
        self,
        clouds: Sequence[Any],
        masks: Sequence[Any],
        shrinkage_cov: Any,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute by streaming moments."""
        moments = Moments()
        with np.errstate(over="ignore", invalid="ignore"):  # whoever asked explains values that are not finite
            for cloud, mask in zip(clouds, masks, strict=True):
                moments.absorb(cloud, mask)
            return moments.invariants(shrinkage_cov, fourth_order=fourth_order)

    def total(self, array: Any) -> Any:
        """Sum all entries."""
        return array.sum()

    def diagonal(self, matrix: Any) -> Any:
        """Take the diagonal."""
        return matrix.diagonal()

    def detached(self, scalar: Any) -> Any:
        """Return it without gradient."""
        return scalar

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """Choose between scalars."""
        return a if condition else b

    def concrete(self, scalar: Any) -> float | None:
        """Return the value, always known."""
        return float(scalar)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Return the array itself."""
        return np.asarray(array)

    def result(self, score: Any) -> float:
        """Return a float, without the rounding that leaves [0, 1]."""
        return float(score)

    def devices(self) -> tuple[str, ...]:
        """Name the only one."""
        return ("cpu",)

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Any:
        """Convert; not to what other packages teach NumPy, such as bfloat16."""
        if np.dtype(dtype).isbuiltin != 1:
            raise TypeError(f"NumPy itself has no dtype {dtype}")
        return array.astype(dtype)

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Return the value alone."""
        return function(X), None


BACKEND = NumPyBackend()
