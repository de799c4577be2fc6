"""Merging of clouds by their sums, once for NumPy, torch and Keras, over the few operations in which these differ.

All else is operators. Scatters, the only matrices, change in place where their framework can.
`isoscore_star.core.formulas` has the mathematics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from isoscore_star.core import formulas
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import Where, larger, mean_variance, not_zero


@dataclass(eq=False)
class Sums:
    """Sums over the points x − μ of a cloud, which may be empty, in powers of a unit."""

    count: Any

    unit: Any
    """A length that keeps squares and fourth powers in the range of floats; it may be 0 if no points differ."""

    anchor: Any
    """A point, (d,): differences of close points are exact, so that a mean far from zero costs no digits."""

    offset: Any
    """μ minus the anchor."""

    scatter: Any
    """A = Σxxᵀ, (d, d)."""

    third: Any = None
    """z = Σ‖x‖²x, (d,); it and Σ‖x‖⁴ only if the fourth order is kept."""

    fourth: Any = None


def added(scatter: Any, own: Any, other: Any, its: Any, u: Any, v: Any) -> Any:
    """Return own·scatter + its·other + uvᵀ, with the scatter changed in place where its framework can."""
    if not _is_one(own):
        scatter *= own
    scatter += other if _is_one(its) else other * its
    scatter += u[:, None] * v
    return scatter


class Operations(NamedTuple):
    """What differs between frameworks."""

    where: Where
    product: Callable[[Any, Any], Any]
    """Of a symmetric matrix, or of a vector, with a vector."""

    trace: Callable[[Any], Any]
    unit_of: Callable[[Any], Any]
    """The unit for lengths up to a vector's largest entry."""

    added: Callable[[Any, Any, Any, Any, Any, Any], Any] = added


def merge(ours: Sums, theirs: Sums, operations: Operations) -> None:
    """Take in the points of another cloud, exactly; its own sums stay as they are."""
    where = operations.where
    count, n2 = ours.count + theirs.count, theirs.count
    n1: Any = where(count > 1, count, 1) - n2  # but 1 if both are empty, so that nothing is divided by zero
    # Anchors are points: their difference has all the digits that the means, far from zero, have not.
    anchor = where(ours.count > 0, ours.anchor, theirs.anchor)
    between = where(n2 > 0, theirs.anchor - anchor, 0)
    unit = larger(larger(ours.unit, theirs.unit, where), operations.unit_of(between), where)
    divisor = not_zero(unit, where)
    own, other = ours.unit / divisor, theirs.unit / divisor
    apart: Any = ours.offset * own - (between / divisor + theirs.offset * other)
    # The common mean as it is seen from either's own.
    h1, h2 = formulas.merged_mean(n1, 0, n2, -apart), formulas.merged_mean(n2, 0, n1, apart)
    if ours.third is not None:
        third, fourth = moved_third_and_fourth(ours, h1, own, operations)
        its_third, its_fourth = moved_third_and_fourth(theirs, h2, other, operations)
        ours.third, ours.fourth = third + its_third, fourth + its_fourth
    outer = apart * formulas.merged_outer_factor(n1, n2)
    ours.scatter = operations.added(ours.scatter, own * own, theirs.scatter, other * other, outer, apart)
    ours.offset = ours.offset * own + h1
    ours.count, ours.unit, ours.anchor = count, unit, anchor


def moved_third_and_fourth(sums: Sums, h: Any, ratio: Any, operations: Operations) -> tuple[Any, Any]:
    """Return z and Σ‖x‖⁴ about a point at h from the mean, both in a unit in which that of the sums is `ratio`."""
    product, squared = operations.product, ratio * ratio
    third, fourth = sums.third * (squared * ratio), sums.fourth * (squared * squared)
    ah, t = product(sums.scatter, h) * squared, operations.trace(sums.scatter) * squared
    hh = product(h, h)
    moved = formulas.recentred_fourth(fourth, sums.count, t, hh, product(h, ah), product(h, third))
    return formulas.recentred_third(third, sums.count, t, h, ah, hh), moved


def invariants_of_sums(
    count: Any, unit: Any, total: Any, squares: Any, fourth: Any, dim: int, where: Where
) -> tuple[Invariants, Any]:
    """Return the invariants of S, from tr A, ‖A‖²_F and, if wanted, Σ‖x‖⁴, and what to divide A by for S/s²."""
    freedom = larger(count - 1, 1, where)
    mean, divisor = mean_variance(total / freedom, dim, where)
    scale = freedom * divisor
    q = None if fourth is None else fourth / divisor / scale
    return Invariants(count, unit * mean**0.5, total / scale, squares / scale / scale, q), scale


def _is_one(ratio: Any) -> bool:
    """Return whether a ratio is known to be 1, so that no matrix has to be multiplied by it."""
    return isinstance(ratio, float) and ratio == 1
