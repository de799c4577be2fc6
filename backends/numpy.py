"""NumPy, without gradients; the backend of everything that has ``__array__``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.accumulator import Accumulator, pair_of
from isoscore_star.core.array_likes import as_numpy
from isoscore_star.core.protocol import Backend, Invariants, Pair, refuse_across
from isoscore_star.core.scaling import sums_in_unit


class NumPyBackend(Backend):
    """Multiplies float32 points in float32 and sums in float64; computes all other dtypes in float64."""

    name = "numpy"
    constants_for_all = True

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def accept(self, name: str, array: Any) -> Any:
        """Convert objects with ``__array__``; arrays of a subclass's framework may lack it."""
        return as_numpy(name, array) if hasattr(array, "__array__") else array

    def points(self, array: Any) -> Any:
        """Flatten to (m, d), without conversion, so that a memory-mapped array stays on disk."""
        return array.reshape(-1, array.shape[-1])

    def mask(self, mask: Any, like: Any) -> Any:
        return np.asarray(mask).reshape(-1) != 0

    def constant(self, array: Any, like: Any) -> Any:
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=np.float64)

    @np.errstate(over="ignore", invalid="ignore")  # value checks explain values that are not finite
    def invariants(
        self,
        clouds: Sequence[Any],
        masks: Sequence[Any],
        shrinkage_cov: Any,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        refuse_across(self, across)
        return _absorbed(clouds, masks).invariants(shrinkage_cov, fourth_order=fourth_order)

    @np.errstate(over="ignore", invalid="ignore")
    def pair(
        self,
        clouds: Sequence[Any],
        masks: Sequence[Any],
        other_clouds: Sequence[Any],
        other_masks: Sequence[Any],
        *,
        across: Any = None,
    ) -> Pair:
        refuse_across(self, across)
        return pair_of(_absorbed(clouds, masks), _absorbed(other_clouds, other_masks))

    def covariance_sums(self, cov: Any) -> tuple[Any, Any]:
        return sums_in_unit(cov.diagonal() if cov.ndim == 2 else cov, cov, np.sum, self.where)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return a if condition else b

    def concrete(self, scalar: Any) -> float | None:
        return float(scalar)

    def to_numpy(self, array: Any) -> NDArray[Any]:
        return np.asarray(array)

    def result(self, score: Any) -> float:
        return float(score)


def _absorbed(clouds: Sequence[Any], masks: Sequence[Any]) -> Accumulator:
    points = Accumulator()
    for cloud, mask in zip(clouds, masks, strict=True):
        points.absorb(cloud, mask)
    return points


BACKEND = NumPyBackend()
