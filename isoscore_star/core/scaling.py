"""Scale normalisation: the units in which S and Σ_S are handed over, so that their squares stay in range.

Only operators and ``where`` are used, which each framework brings along. Units are constants in every derivative:
whoever has gradients gives them sums without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from isoscore_star.core.protocol import Array, Invariants

Where = Callable[[Any, Any, Any], Any]


class Target(NamedTuple):
    """Σ_S/s₀² in two parts, its matrix and its divisor, with those invariants that are its own."""

    matrix: Array
    """(d, d): Σ_S itself where its values are known to be of usual size, which saves a copy."""

    divisor: Any
    unit: Any
    """s₀."""

    t0: Any
    f0: Any


def where_known(condition: Any, a: Any, b: Any) -> Any:
    """Choose by a condition whose value is known."""
    return a if condition else b


def larger(a: Any, b: Any, where: Where) -> Any:
    """Return the larger of two scalars."""
    return where(a > b, a, b)


def not_zero(denominator: Any, where: Where) -> Any:
    """Return what to divide by: 1 instead of zero."""
    return where(denominator != 0, denominator, 1.0)


def mean_variance(total: Any, dim: int, where: Where) -> tuple[Any, Any]:
    """Return tr S/d, and what to divide by: 1 where that is zero."""
    mean = total / dim
    return mean, not_zero(mean, where)


def usual_target(matrix: Array, trace: float, squares: Callable[[Array], float], bound: float) -> Target | None:
    """Take Σ_S as it is, in units of its mean variance, if that lies between one over the bound and the bound."""
    variance = trace / len(matrix)
    if not 1 / bound <= variance <= bound:
        return None
    return Target(matrix, variance, variance**0.5, trace / variance, squares(matrix) / variance / variance)


def scaled_target(
    matrix: Array, largest: Any, trace: Callable[[Array], Any], squares: Callable[[Array], Any], where: Where
) -> Target:
    """Divide Σ_S by its largest variance before anything is squared or summed; no covariance is larger than that.

    In two steps, since XLA divides by multiplying with a reciprocal, which for a small variance is not in range.
    """
    unit = largest**0.5
    inverse = 1 / not_zero(unit, where)
    scaled = matrix * inverse * inverse
    return Target(scaled, 1.0, unit, trace(scaled), squares(scaled))


def with_target(invariants: Invariants, target: Target, cross: Any) -> Invariants:
    """Add what depends on Σ_S, given ⟨S, Σ_S⟩/(s²s₀²)."""
    return invariants._replace(cross=cross, t0=target.t0, f0=target.f0, target_unit=target.unit)


def sums_in_unit(
    variances: Array,
    cov: Array,
    total: Callable[[Any], Any],
    where: Where,
    constant: Callable[[Any], Any] = lambda a: a,
) -> tuple[Array, Array]:
    """Compute tr C and ‖C‖²_F in units of about a mean variance, which counts as a constant.

    By roots, in two steps: sums of variances leave the range of floats where no variance does, and what divides by a
    large number as XLA does, times its reciprocal, gives zero.
    """
    root = total(abs(constant(variances)) ** 0.5) / int(variances.shape[0])
    inverse = 1.0 / where(root > 0, root, 1.0)
    scaled = cov * inverse * inverse
    return total(variances * inverse * inverse), total(scaled * scaled)
