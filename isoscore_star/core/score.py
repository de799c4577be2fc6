"""From invariants to scores: the last step of the flow, the same for every backend and for streaming moments.

`isoscore_star.core.formulas` has the mathematics; here its fractions are guarded, so that neither the value nor the
gradient can become NaN: the condition of every ``where`` keeps the chosen branch's own denominator away from zero.
Points that are not finite give NaN, which differs from 0, so that no guard hides it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from isoscore_star.core import formulas
from isoscore_star.core.protocol import Array, Invariants
from isoscore_star.core.scaling import Where, larger, not_zero

_SMALL = 2.0**-10
"""A ζ that is no nearer to 0 or 1 leaves the larger of the two weights far from zero."""

_LARGE = 2.0**40
"""More than any scale's ratio to the larger of two is, unless its weight is zero; its square is in range of float32."""


def shrunk_score(invariants: Invariants, zeta: Any, dim: int, where: Where) -> Array:
    """Return IsoScore* of Σ = (1−ζ)S + ζΣ_S, or 0 with zero gradient where Σ is zero."""
    return mixed(invariants, zeta, where).score(dim, where)


class Mixed(NamedTuple):
    """T and F of Σ = a·S/s² + b·Σ_S/s₀², and the two weights, up to a common factor."""

    t: Any
    f: Any
    a: Any
    b: Any

    def score(self, dim: int, where: Where) -> Array:
        """Return IsoScore* of Σ."""
        numerator, denominator = formulas.score_fraction(self.t, self.f, dim)
        return numerator / where(self.f != 0, denominator, 1.0)


def mixed(invariants: Invariants, zeta: Any, where: Where) -> Mixed:
    """Mix S with Σ_S, if there is one and it counts."""
    t, f = invariants.t, invariants.f
    if invariants.target_unit is None or (isinstance(zeta, float) and zeta == 0):
        return Mixed(t, f, 1.0, 0.0)
    cross, t0, f0 = cast(tuple[Any, Any, Any], (invariants.cross, invariants.t0, invariants.f0))
    a, b = shrinkage_weights(zeta, invariants.unit, invariants.target_unit, where)
    return Mixed(formulas.mixed(a, b, t, t0), formulas.mixed_squares(a, b, f, cross, f0), a, b)


def shrinkage_weights(zeta: Any, unit: Any, target_unit: Any, where: Where) -> tuple[Any, Any]:
    """Weights of S/s² and Σ_S/s₀² in Σ, up to a common factor, in range whatever s and s₀ are.

    They are in units of the larger of s and s₀, but at ζ = 0 and 1 of the only one that counts, so that the other one
    cannot drive it out of range; the other's ratio is bounded there, since 0·∞ would be NaN.
    """
    known = isinstance(zeta, float)
    if known and zeta in (0, 1):
        return 1 - zeta, zeta
    scale = larger(unit, target_unit, where)
    if not known:
        scale = where(zeta == 1, target_unit, where(zeta == 0, unit, scale))
    scale = not_zero(scale, where)
    own, its = unit / scale, target_unit / scale
    if known and _SMALL < zeta < 1 - _SMALL:
        return formulas.shrinkage_weights(zeta, own, its)
    own, its = where(own < _LARGE, own, _LARGE), where(its < _LARGE, its, _LARGE)
    a, b = formulas.shrinkage_weights(zeta, own, its)
    scale = not_zero(larger(a, b, where), where)
    return a / scale, b / scale


def unbiased_score(invariants: Invariants, dim: int, where: Where, *, floored: bool) -> Array:
    """Return the score from the unbiased PR; 0 with zero gradient below four points or without spread.

    ``floored`` keeps the denominator up, for the training path and wherever values are not known; otherwise it has to
    be known to be positive.
    """
    return unbiased_estimates(invariants, dim, where, floored=floored).score(dim, where)


class Unbiased(NamedTuple):
    """Unbiased estimates of (tr Σ)² and tr(Σ²), up to a common factor, and F.

    `defined` says whether there are any, `at_floor` whether the second one is its floor.
    """

    squared_trace: Any
    denominator: Any
    f: Any
    defined: Any
    at_floor: Any

    def score(self, dim: int, where: Where) -> Array:
        """Return (PR − 1)/(d − 1)."""
        # 0·F, which is NaN for points that are not finite, however few they are.
        numerator = where(self.defined, self.squared_trace - self.denominator, 0.0 * self.f)
        return numerator / where(self.defined, (dim - 1) * self.denominator, 1.0)


def unbiased_estimates(invariants: Invariants, dim: int, where: Where, *, floored: bool) -> Unbiased:
    """Compute what the unbiased score is made of."""
    m, f = invariants.count, invariants.f
    squared_trace, denominator = _unbiased_squares(invariants)
    at_floor: Any = False
    if floored:
        floor = formulas.unbiased_floor(f, m, dim)
        at_floor = denominator < floor  # not <=, which would hide a NaN
        denominator = where(at_floor, floor, denominator)
    return Unbiased(squared_trace, denominator, f, (m >= 4) & (f != 0), at_floor)


def measured_unbiased_score(invariants: Invariants, dim: int, where: Where) -> Array:
    """Unbiased score for code that measures and may not raise: 0 below four points, NaN where there is none."""
    score = unbiased_score(invariants, dim, where, floored=False)
    m, f = invariants.count, invariants.f
    rounding = rounding_of_margin(m, invariants.precision)
    return where((m >= 4) & (f != 0) & (unbiased_margin(invariants) <= rounding), float("nan"), score)


def rounding_of_margin(count: Any, precision: float) -> Any:
    """Bound what rounding makes of `unbiased_margin`.

    Its three terms are sums over m points, which err by √m·ε relative to their size (with probability 1 − 2·exp(−λ²/2)
    by λ√m·ε/2: Higham & Mary, *A New Approach to Probabilistic Rounding Error Analysis*, SIAM J. Sci. Comput. 2019),
    and their coefficients by a few ε: λ = 8, and 8ε more. Equal rows all round the same way, which makes m·ε of it, by
    float64's ε, since longer sums are kept in that.
    """
    return 8 * precision * (1 + count**0.5) + count * 2.0**-52


def unbiased_margin(invariants: Invariants) -> Array:
    """Estimate of tr(Σ²) relative to the terms it is made of; up to some ε of these it is nothing but rounding."""
    q: Any = invariants.q
    terms = formulas.unbiased_terms(invariants.t, invariants.f, q, invariants.count)
    return _unbiased_squares(invariants)[1] / terms


def _unbiased_squares(invariants: Invariants) -> tuple[Any, Any]:
    q: Any = invariants.q
    return formulas.unbiased_squares(invariants.t, invariants.f, q, invariants.count)


def bounded(score: Any) -> Any:
    """Cut a number to [0, 1], which rounding can leave by a little; cutting off a tensor would cut off its gradient."""
    return min(max(score, 0.0), 1.0) if isinstance(score, float) else score
