"""NumPy: no gradients; the backend of everything that has ``__array__``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.accumulator import Accumulator
from isoscore_star.core.array_likes import as_numpy
from isoscore_star.core.protocol import Backend, Invariants, refuse_across
from isoscore_star.core.scaling import sums_in_unit


class NumPyBackend(Backend):
    """Float32 points are multiplied in float32 and summed in float64; all other dtypes are computed in float64."""

    name = "numpy"
    constants_for_all = True

    def owns(self, array: object) -> bool:
        """Return whether the array is an ndarray."""
        return isinstance(array, np.ndarray)

    def accept(self, name: str, array: Any) -> Any:
        """Bring to an ndarray what has ``__array__``; a subclass's own arrays need not."""
        return as_numpy(name, array) if hasattr(array, "__array__") else array

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
        refuse_across(self, across)
        points = Accumulator()
        with np.errstate(over="ignore", invalid="ignore"):  # whoever asked explains values that are not finite
            for cloud, mask in zip(clouds, masks, strict=True):
                points.absorb(cloud, mask)
            return points.invariants(shrinkage_cov, fourth_order=fourth_order)

    def covariance_sums(self, cov: Any) -> tuple[Any, Any]:
        """Compute tr C and ‖C‖²_F."""
        return sums_in_unit(cov.diagonal() if cov.ndim == 2 else cov, cov, np.sum, self.where)

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


BACKEND = NumPyBackend()
