"""autograd: gradients of any order for NumPy code, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from autograd.extend import defvjp, primitive
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import getval, isbox

from isoscore_star.backends.numpy import NumPyBackend
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import mean_variance, scaled_target, where_known, with_target


@primitive  # type: ignore[untyped-decorator]
def _symmetric_product(points: Any) -> Any:
    return points.T @ points


# One product instead of the two that the factors of points.T @ points would cost apart.
defvjp(_symmetric_product, lambda _, points: lambda g: points @ (g + g.T))


class AutogradBackend(NumPyBackend):
    """What differs from NumPy: everything stays on the tape, and constants (plain ndarrays) may stand beside boxes."""

    name = "autograd"
    differentiable = True
    takes: tuple[str, ...] = ("numpy",)

    def owns(self, array: object) -> bool:
        """Return whether the array is a box of autograd's, that is, an array inside `autograd.grad`."""
        return isinstance(array, ArrayBox)

    def points(self, array: Any) -> Any:
        """Flatten to (m, d) in float64."""
        return anp.reshape(self.constant(array, array), (-1, array.shape[-1]))

    def constant(self, array: Any, like: Any) -> Any:
        """Return the array in float64."""
        return (array if isbox(array) else anp.asarray(array)).astype(float)

    def mask(self, mask: Any, like: Any) -> Any:
        """Flatten to booleans."""
        return super().mask(_value(mask), like)

    def invariants(
        self,
        clouds: Sequence[Any],
        masks: Sequence[Any],
        shrinkage_cov: Any,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute by one symmetric product of d × d, or of m × m where the points are the fewer."""
        with np.errstate(over="ignore", invalid="ignore"):  # whoever asked explains values that are not finite
            return self._invariants(clouds, masks, shrinkage_cov, fourth_order)

    def _invariants(
        self, clouds: Sequence[Any], masks: Sequence[Any], shrinkage_cov: Any, fourth_order: bool
    ) -> Invariants:
        points = anp.concatenate([c if keep is None else c[keep] for c, keep in zip(clouds, masks, strict=True)])
        count, dim = points.shape
        freedom = max(count - 1, 1)
        # Differences from a point of the cloud leave exactly nothing of identical points.
        shifted = points - _value(points[:1])
        length = _power_of_two(np.abs(_value(shifted)).max(initial=0.0))
        shifted = shifted / length
        centred = shifted - anp.sum(shifted, axis=0) / max(count, 1)
        total = anp.sum(centred**2) / freedom
        variance, unit = mean_variance(_value(total), dim, where_known)
        sample = _symmetric_product(centred if count >= dim else centred.T) / (freedom * unit)
        fourth = anp.sum((anp.sum(centred**2, axis=1) / unit) ** 2) / freedom if fourth_order else None
        found = Invariants(count, length * variance**0.5, total / unit, anp.sum(sample**2), fourth)
        if shrinkage_cov is None:
            return found
        largest = np.abs(_value(self.diagonal(shrinkage_cov))).max()
        target = scaled_target(shrinkage_cov, largest, anp.trace, lambda m: anp.sum(m**2), where_known)
        if count >= dim:
            return with_target(found, target, anp.sum(sample * target.matrix))
        return with_target(found, target, anp.sum(centred * (centred @ target.matrix)) / (freedom * unit))

    def total(self, array: Any) -> Any:
        """Sum all entries."""
        return anp.sum(array)

    def diagonal(self, matrix: Any) -> Any:
        """Take the diagonal."""
        return anp.diagonal(matrix, axis1=-1, axis2=-2)  # the only axes whose gradient autograd has

    def detached(self, scalar: Any) -> Any:
        """Return it without gradient."""
        return _value(scalar)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """Choose between scalars."""
        return anp.where(_value(condition), a, b)  # stays on the tape even where the constant is chosen

    def concrete(self, scalar: Any) -> float | None:
        """Return the value that the box carries."""
        return float(_value(scalar))

    def to_numpy(self, array: Any) -> Any:
        """Return the value that the box carries."""
        return anp.asarray(_value(array))

    def result(self, score: Any) -> Any:
        """Leave the box on its tape."""
        return score

    def value_and_gradient(self, function: Callable[[Any], Any], X: Any) -> tuple[Any, Any]:
        """Differentiate by the tape."""
        value, gradient = value_and_grad(function)(X)
        return value, gradient


def _power_of_two(length: float) -> float:
    """Round a length up, so that dividing by it rounds nothing; 1 for zero, and NaN for what is not finite."""
    if not np.isfinite(length):
        return np.nan
    # Not so small that one over it, in a gradient, would overflow.
    return 2.0 ** max(-960, min(int(np.frexp(length)[1]), 1022)) if length else 1.0


def _value(array: Any) -> Any:
    while isbox(array):
        array = getval(array)
    return array


BACKEND = AutogradBackend()
