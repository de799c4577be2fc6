"""Merging of clouds by their sums, for NumPy, torch and Keras, over operators and the few operations that differ.

Scatters, the only matrices, change in place where their framework can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from isoscore_star.core import formulas
from isoscore_star.core.protocol import Invariants, Pair
from isoscore_star.core.scaling import Where, larger, mean_variance, not_zero


@dataclass(eq=False)
class Sums:
    """Sums over the centred points x of a cloud, which may be empty, in powers of a unit.

    Attributes
    ----------
    count : scalar
        Number of points.
    unit : scalar
        A length that keeps squares and fourth powers in range; it may be 0 if no points differ.
    anchor : array of shape (d,)
        A point: differences of close points are exact, so that a mean far from zero costs no digits.
    offset : array of shape (d,)
        The mean minus the anchor.
    scatter : array of shape (d, d)
        A = Σxxᵀ.
    third, fourth : array of shape (d,) and scalar, or None
        z = Σ‖x‖²x and Σ‖x‖⁴, if the fourth order is kept.
    met : scalar
        Number of groups with a point among these, where groups are counted.
    """

    count: Any
    unit: Any
    anchor: Any
    offset: Any
    scatter: Any
    third: Any = None
    fourth: Any = None
    met: Any = 0


def added(scatter: Any, own: Any, other: Any, its: Any, u: Any, v: Any) -> Any:
    """Return own·scatter + its·other + uvᵀ, changing the scatter in place where its framework can."""
    if not _is_one(own):
        scatter *= own
    scatter += other if _is_one(its) else other * its
    scatter += u[:, None] * v
    return scatter


class Operations(NamedTuple):
    """What differs between frameworks.

    `product` is that of a symmetric matrix, or of a vector, with a vector; `unit_of` returns the unit for lengths up to
    a vector's largest entry.
    """

    where: Where
    product: Callable[[Any, Any], Any]
    trace: Callable[[Any], Any]
    unit_of: Callable[[Any], Any]
    added: Callable[[Any, Any, Any, Any, Any, Any], Any] = added


def merge(ours: Sums, theirs: Sums, operations: Operations) -> None:
    """Merge another cloud's sums, which stay unchanged, into ours."""
    where = operations.where
    count, n2 = ours.count + theirs.count, theirs.count
    n1: Any = where(count > 1, count, 1) - n2  # 1 if both are empty, so that nothing is divided by zero
    # Anchors are points, so that their difference is exact where that of means, far from zero, is not.
    anchor = where(ours.count > 0, ours.anchor, theirs.anchor)
    between = where(n2 > 0, theirs.anchor - anchor, 0)
    unit = larger(larger(ours.unit, theirs.unit, where), operations.unit_of(between), where)
    divisor = not_zero(unit, where)
    own, other = ours.unit / divisor, theirs.unit / divisor
    apart: Any = ours.offset * own - (between / divisor + theirs.offset * other)
    # The common mean relative to each mean.
    h1, h2 = formulas.merged_mean(n1, 0, n2, -apart), formulas.merged_mean(n2, 0, n1, apart)
    if ours.third is not None:
        third, fourth = moved_third_and_fourth(ours, h1, own, operations)
        its_third, its_fourth = moved_third_and_fourth(theirs, h2, other, operations)
        ours.third, ours.fourth = third + its_third, fourth + its_fourth
    outer = apart * formulas.merged_outer_factor(n1, n2)
    ours.scatter = operations.added(ours.scatter, own * own, theirs.scatter, other * other, outer, apart)
    ours.offset = ours.offset * own + h1
    ours.count, ours.unit, ours.anchor, ours.met = count, unit, anchor, ours.met + theirs.met


def moved_third_and_fourth(sums: Sums, h: Any, ratio: Any, operations: Operations) -> tuple[Any, Any]:
    """Return z and Σ‖x‖⁴ about mean + h, in a unit in which the sums' unit is `ratio`."""
    product, squared = operations.product, ratio * ratio
    third, fourth = sums.third * (squared * ratio), sums.fourth * (squared * squared)
    ah, t = product(sums.scatter, h) * squared, operations.trace(sums.scatter) * squared
    hh = product(h, h)
    moved = formulas.recentred_fourth(fourth, sums.count, t, hh, product(h, ah), product(h, third))
    return formulas.recentred_third(third, sums.count, t, h, ah, hh), moved


def invariants_of_sums(
    count: Any, unit: Any, total: Any, squares: Any, fourth: Any, dim: int, where: Where
) -> tuple[Invariants, Any]:
    """Return the invariants of S, from tr A, ‖A‖²_F and optionally Σ‖x‖⁴, and A's divisor for S/s²."""
    freedom = larger(count - 1, 1, where)
    mean, divisor = mean_variance(total / freedom, dim, where)
    scale = freedom * divisor
    q = None if fourth is None else fourth / divisor / scale
    return Invariants(count, unit * mean**0.5, total / scale, squares / scale / scale, q), scale


def swapped(first: Sums, second: Sums, odd: Any, where: Where) -> tuple[Sums, Sums]:
    """Return the sums of two halves, exchanged if `odd`: those of the groups whose numbers count on from an odd one."""
    if isinstance(odd, bool):
        return (second, first) if odd else (first, second)
    pairs = [
        (a, b) if a is None else (where(odd, b, a), where(odd, a, b))
        for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
    ]
    return Sums(*(a for a, _ in pairs)), Sums(*(b for _, b in pairs))


def pair_of_sums(first: Sums, second: Sums, inner: Any, dim: int, operations: Operations, precision: float) -> Pair:
    """Return what the score of two halves depends on, given Σᵢⱼ AᵢⱼBᵢⱼ of their scatters."""
    (a, of_a), (b, of_b) = (
        invariants_of_sums(sums.count, sums.unit, operations.trace(sums.scatter), 0.0, None, dim, operations.where)
        for sums in (first, second)
    )
    return Pair((first.count, second.count), (a.unit, b.unit), a.t, b.t, inner / of_a / of_b, precision)


def _is_one(ratio: Any) -> bool:
    return isinstance(ratio, float) and ratio == 1
