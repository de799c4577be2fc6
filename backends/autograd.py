"""autograd: gradients of any order for NumPy code, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import getval, isbox

from isoscore_star.backends.numpy import NumPyBackend
from isoscore_star.core.protocol import Invariants, Pair, refuse_across
from isoscore_star.core.scaling import mean_variance, scaled_target, sums_in_unit, where_known, with_target


@primitive  # type: ignore[untyped-decorator]
def _symmetric_product(points: Any) -> Any:
    return points.T @ points


# One product instead of one for each factor of points.T @ points.
defvjp(_symmetric_product, lambda _, points: lambda g: points @ (g + g.T))


class AutogradBackend(NumPyBackend):
    """Keeps all operations on autograd's tape; constants are plain ndarrays."""

    name = "autograd"
    constants_for_all = False
    takes: tuple[str, ...] = ("numpy",)

    def owns(self, array: object) -> bool:
        """Return whether the array is autograd's box, an array inside `autograd.grad`."""
        return isinstance(array, ArrayBox)

    def accept(self, name: str, array: Any) -> Any:
        return array if isbox(array) else super().accept(name, array)

    def points(self, array: Any) -> Any:
        return anp.reshape(self.constant(array, array), (-1, array.shape[-1]))

    def constant(self, array: Any, like: Any) -> Any:
        return (array if isbox(array) else anp.asarray(array)).astype(float)

    def mask(self, mask: Any, like: Any) -> Any:
        return super().mask(_value(mask), like)

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
        """Compute by one symmetric product, d × d or m × m, whichever is smaller."""
        refuse_across(self, across)
        cloud = _centred(clouds, masks)
        freedom, (count, dim) = cloud.freedom, cloud.points.shape
        sample = _symmetric_product(cloud.points if count >= dim else cloud.points.T) / freedom
        norms = anp.sum(cloud.points**2, axis=1)
        fourth = anp.sum(norms**2) / freedom if fourth_order else None
        invariants = Invariants(count, cloud.unit, anp.sum(norms) / freedom, anp.sum(sample**2), fourth)
        if shrinkage_cov is None:
            return invariants
        largest = np.abs(_value(shrinkage_cov).diagonal()).max()
        target = scaled_target(shrinkage_cov, largest, anp.trace, lambda m: anp.sum(m**2), where_known)
        if count >= dim:
            return with_target(invariants, target, anp.sum(sample * target.matrix))
        return with_target(invariants, target, anp.sum(cloud.points * (cloud.points @ target.matrix)) / freedom)

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
        """Compute by d × d products or by inner products of the points of both, whichever are fewer."""
        refuse_across(self, across)
        a, b = _centred(clouds, masks), _centred(other_clouds, other_masks)
        if min(len(a.points), len(b.points)) >= a.points.shape[1]:
            inner = anp.sum(_symmetric_product(a.points) * _symmetric_product(b.points))
        else:
            inner = anp.sum((a.points @ b.points.T) ** 2)
        t_a, t_b = (anp.sum(half.points**2) / half.freedom for half in (a, b))
        counts = (len(a.points), len(b.points))
        return Pair(counts, (a.unit, b.unit), t_a, t_b, inner / (a.freedom * b.freedom))

    def covariance_sums(self, cov: Any) -> tuple[Any, Any]:
        # The only axes for which autograd has a diagonal's gradient.
        variances = anp.diagonal(cov, axis1=-1, axis2=-2) if cov.ndim == 2 else cov
        return sums_in_unit(variances, cov, anp.sum, self.where, _value)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return anp.where(_value(condition), a, b)  # on the tape even where the constant is chosen

    def concrete(self, scalar: Any) -> float | None:
        return float(_value(scalar))

    def to_numpy(self, array: Any) -> Any:
        return anp.asarray(_value(array))

    def result(self, score: Any) -> Any:
        return score


class _Cloud(NamedTuple):
    """Centred points in units of their standard deviation, that unit, and m − 1."""

    points: Any
    unit: float
    freedom: int


def _centred(clouds: Sequence[Any], masks: Sequence[Any]) -> _Cloud:
    points = anp.concatenate([c if keep is None else c[keep] for c, keep in zip(clouds, masks, strict=True)])
    count, dim = points.shape
    freedom = max(count - 1, 1)
    shifted = points - _value(points[:1])
    length = _power_of_two(np.abs(_value(shifted)).max(initial=0.0))
    shifted = shifted / length
    centred = shifted - anp.sum(shifted, axis=0) / max(count, 1)
    variance, divisor = mean_variance(np.sum(_value(centred) ** 2) / freedom, dim, where_known)
    return _Cloud(centred / divisor**0.5, length * variance**0.5, freedom)


def _power_of_two(length: float) -> float:
    """Round a length up to a power of two, by which division is exact; 1 for zero, NaN for inf and NaN."""
    if not np.isfinite(length):
        return np.nan
    # Bounded below, so that its reciprocal, in a gradient, does not overflow.
    return 2.0 ** max(-960, min(int(np.frexp(length)[1]), 1022)) if length else 1.0


def _value(array: Any) -> Any:
    while isbox(array):
        array = getval(array)
    return array


BACKEND = AutogradBackend()
