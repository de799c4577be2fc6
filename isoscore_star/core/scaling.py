"""Scale normalisation of S and Σ_S, which keeps their squares in range, by operators and the framework's ``where``.

Units are constants in every derivative: callers pass sums without gradient for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from isoscore_star.core.protocol import Array, Invariants

Where = Callable[[Any, Any, Any], Any]


class Target(NamedTuple):
    """Σ_S/s₀² as matrix/divisor (without a copy where Σ_S needs no scaling), its unit s₀, and its invariants."""

    matrix: Array
    divisor: Any
    unit: Any
    t0: Any
    f0: Any


def where_known(condition: Any, a: Any, b: Any) -> Any:
    """Choose by a known condition."""
    return a if condition else b


def larger(a: Any, b: Any, where: Where) -> Any:
    """Return the larger of two scalars."""
    return where(a > b, a, b)


def not_zero(denominator: Any, where: Where) -> Any:
    """Return the denominator, or 1 where it is zero."""
    return where(denominator != 0, denominator, 1.0)


def mean_variance(total: Any, dim: int, where: Where) -> tuple[Any, Any]:
    """Return tr S/d, and the same as a divisor: 1 where it is zero."""
    mean = total / dim
    return mean, not_zero(mean, where)


def usual_target(matrix: Array, trace: float, squares: Callable[[Array], float], bound: float) -> Target | None:
    """Return Σ_S with its mean variance as divisor, if that lies between 1/bound and bound."""
    variance = trace / len(matrix)
    if not 1 / bound <= variance <= bound:
        return None
    return Target(matrix, variance, variance**0.5, trace / variance, squares(matrix) / variance / variance)


def scaled_target(
    matrix: Array, largest: Any, trace: Callable[[Array], Any], squares: Callable[[Array], Any], where: Where
) -> Target:
    """Divide Σ_S by its largest variance, its largest entry, before anything is squared or summed.

    In two steps, since XLA divides by multiplying with the reciprocal, which for a small variance is out of range.
    """
    unit = largest**0.5
    inverse = 1 / not_zero(unit, where)
    scaled = matrix * inverse * inverse
    return Target(scaled, 1.0, unit, trace(scaled), squares(scaled))


def with_target(invariants: Invariants, target: Target, cross: Any) -> Invariants:
    """Return the invariants with those of Σ_S, given ⟨S, Σ_S⟩/(s²s₀²)."""
    return invariants._replace(cross=cross, t0=target.t0, f0=target.f0, target_unit=target.unit)


def sums_in_unit(
    variances: Array,
    cov: Array,
    total: Callable[[Any], Any],
    where: Where,
    constant: Callable[[Any], Any] = lambda a: a,
) -> tuple[Array, Array]:
    """Compute tr C and ‖C‖²_F in units of about the mean variance, a constant in derivatives.

    By roots, in two steps: a sum of variances may leave the range of floats where no variance does, and so may the
    reciprocal of a variance, by which XLA divides.
    """
    root = total(abs(constant(variances)) ** 0.5) / int(variances.shape[0])
    inverse = 1.0 / where(root > 0, root, 1.0)
    scaled = cov * inverse * inverse
    return total(variances * inverse * inverse), total(scaled * scaled)
