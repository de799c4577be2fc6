"""From invariants to scores, the same for every backend and for streaming moments.

The fractions of `isoscore_star.core.formulas` are guarded, so that neither value nor gradient becomes NaN: every
``where`` keeps both branches' denominators away from zero. Points that are not finite give NaN, which no guard hides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from isoscore_star.core import formulas
from isoscore_star.core.protocol import Array, Invariants, Pair
from isoscore_star.core.scaling import Where, larger, not_zero

_SMALL = 2.0**-10
"""For ζ no nearer to 0 or 1 than this the larger of the two weights is far from zero."""

_LARGE = 2.0**40
"""Above every ratio of a scale to the larger one, unless its weight is zero; its square is in range of float32."""


def shrunk_score(invariants: Invariants, zeta: Any, dim: int, where: Where) -> Array:
    """Return IsoScore* of Σ = (1−ζ)S + ζΣ_S, or 0 with zero gradient where Σ is zero."""
    return mixture(invariants, zeta, where).score(dim, where)


class Mixed(NamedTuple):
    """T and F of Σ = a·S/s² + b·Σ_S/s₀², and the two weights, up to a common factor."""

    t: Any
    f: Any
    a: Any
    b: Any

    def score(self, dim: int, where: Where) -> Array:
        """Return IsoScore* of Σ."""
        numerator, denominator = formulas.score_fraction(self.t, self.t, self.f, dim)
        return numerator / where(self.f != 0, denominator, 1.0)


def mixture(invariants: Invariants, zeta: Any, where: Where) -> Mixed:
    """Mix S with Σ_S, if there is one and ζ is not known to be 0."""
    t, f = invariants.t, invariants.f
    if invariants.target_unit is None or (isinstance(zeta, float) and zeta == 0):
        return Mixed(t, f, 1.0, 0.0)
    cross, t0, f0 = cast(tuple[Any, Any, Any], (invariants.cross, invariants.t0, invariants.f0))
    a, b = weights_in_range(zeta, invariants.unit, invariants.target_unit, where)
    return Mixed(formulas.mixed(a, b, t, t0), formulas.mixed_squares(a, b, f, cross, f0), a, b)


def weights_in_range(zeta: Any, unit: Any, target_unit: Any, where: Where) -> tuple[Any, Any]:
    """Return the weights of S/s² and Σ_S/s₀² in Σ, up to a common factor, in range for all s and s₀.

    They are in units of the larger of s and s₀, but at ζ = 0 and 1 of the one with weight 1, so that the other cannot
    drive it out of range; the other's ratio is bounded there, since 0·∞ is NaN.
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
    """Return the score from the unbiased PR, or 0 with zero gradient below four points or without variance."""
    return unbiased_estimates(invariants, dim, where, floored=floored).score(dim, where)


class Unbiased(NamedTuple):
    """Unbiased estimates of (tr Σ)² and tr(Σ²), up to a common factor, whether they are defined and floored, and F."""

    squared_trace: Any
    denominator: Any
    f: Any
    defined: Any
    at_floor: Any

    def score(self, dim: int, where: Where) -> Array:
        """Return (PR − 1)/(d − 1)."""
        # 0·F, which is NaN for points that are not finite.
        numerator = where(self.defined, self.squared_trace - self.denominator, 0.0 * self.f)
        return numerator / where(self.defined, (dim - 1) * self.denominator, 1.0)


def unbiased_estimates(invariants: Invariants, dim: int, where: Where, *, floored: bool) -> Unbiased:
    """Compute the estimates; the second one, unless `floored`, has to be known to be positive."""
    m, f = invariants.count, invariants.f
    squared_trace, denominator = _unbiased_squares(invariants)
    at_floor: Any = False
    if floored:
        floor = formulas.unbiased_floor(f, m, dim)
        at_floor = denominator < floor  # not <=, which would hide a NaN
        denominator = where(at_floor, floor, denominator)
    return Unbiased(squared_trace, denominator, f, (m >= 4) & (f != 0), at_floor)


def measured_unbiased_score(invariants: Invariants, dim: int, where: Where) -> Array:
    """Return the unbiased score without raising: 0 below four points, NaN where it is undefined."""
    score = unbiased_score(invariants, dim, where, floored=False)
    m, f = invariants.count, invariants.f
    rounding = rounding_of_margin(m, invariants.precision)
    return where((m >= 4) & (f != 0) & (unbiased_margin(invariants) <= rounding), float("nan"), score)


def unbiased_score_of_sums(count: Any, t: Any, f: Any, q: Any, dim: int, where: Where, rounding: Any) -> Array:
    """Return the unbiased score of `count` points from tr A, ‖A‖²_F and Σ‖x‖⁴; NaN where it is undefined.

    `rounding` is a bound on that of `unbiased_margin`.
    """
    freedom = count - 1
    invariants = Invariants(count, 1.0, t / freedom, f / freedom**2, q / freedom)
    defined = unbiased_margin(invariants) > rounding
    return where(defined, unbiased_score(invariants, dim, where, floored=False), float("nan"))


def rounding_of_margin(count: Any, precision: float) -> Any:
    """Return a bound on the rounding error of `unbiased_margin`.

    Its three terms are sums over m points, with relative errors of λ√m·ε/2 (with probability 1 − 2·exp(−λ²/2): Higham &
    Mary, *A New Approach to Probabilistic Rounding Error Analysis*, SIAM J. Sci. Comput. 2019) and coefficients with
    errors of a few ε: λ = 8, and 8ε more. Equal rows round the same way: m·ε, of float64, in which long sums are kept.
    """
    return 8 * precision * (1 + count**0.5) + count * 2.0**-52


def unbiased_margin(invariants: Invariants) -> Array:
    """Return the estimate of tr(Σ²) relative to the sum of its terms."""
    q: Any = invariants.q
    terms = formulas.unbiased_terms(invariants.t, invariants.f, q, invariants.count)
    return _unbiased_squares(invariants)[1] / terms


def _unbiased_squares(invariants: Invariants) -> tuple[Any, Any]:
    q: Any = invariants.q
    return formulas.unbiased_squares(invariants.t, invariants.f, q, invariants.count)


def halves_score(pair: Pair, dim: int, where: Where, *, enough: Any, floored: bool) -> Array:
    """Return s(A, B) of two halves, or 0 with zero gradient unless there are `enough` groups."""
    return _pair_score(pair.t_a, pair.t_b, pair.inner, dim, where, enough, floored)


def measured_halves_score(pair: Pair, dim: int, where: Where, *, enough: Any) -> Array:
    """Return s(A, B) without raising: 0 below `enough` groups or without spread in a half, NaN where undefined."""
    score = halves_score(pair, dim, where, enough=enough, floored=False)
    product, inner = pair.t_a * pair.t_b, cast(Any, pair.inner)
    rounding = rounding_of_margin(larger(*pair.counts, where), pair.precision)
    return where(enough & (product != 0) & (inner <= product * rounding), float("nan"), score)


def anchored_score(invariants: Invariants, dim: int, where: Where) -> Array:
    """Return 2·s(S, Σ_S) − s(Σ_S, Σ_S), or s(Σ_S, Σ_S) with zero gradient where S is zero."""
    t, cross, t0, f0 = cast(tuple[Any, Any, Any, Any], invariants[2:3] + invariants[5:8])
    t0, f0 = t0 + 0.0 * invariants.unit, f0 + 0.0 * invariants.unit  # arrays, of which backends may know numbers
    own = _pair_score(t0, t0, f0, dim, where, True, False)
    score = _pair_score(t, t0, cross, dim, where, True, True)
    return where(t != 0, formulas.anchored_score(score, own), own + score)


def following_score(invariants: Invariants, dim: int, where: Where, constant: Callable[[Any], Any]) -> Array:
    """Return s(S, Σ_S) with twice its slopes, those of the anchored score; 0 with zero gradient where S is zero.

    Of a Σ_S that follows the batches: of few states, so that s(Σ_S, Σ_S) is too low, but independent of S.
    """
    t, cross, t0 = cast(tuple[Any, Any, Any], (invariants.t, invariants.cross, invariants.t0))
    score = _pair_score(t, t0 + 0.0 * invariants.unit, cross, dim, where, True, True)
    return 2 * score - constant(score)


def _pair_score(t_a: Any, t_b: Any, inner: Any, dim: int, where: Where, defined: Any, floored: bool) -> Any:
    """Return s(A, B), or 0 with zero gradient where it is not defined or a trace is zero.

    ⟨A, B⟩ has to be known to be positive, or is `floored`, with zero gradient at the floor.
    """
    product, most = t_a * t_b, formulas.largest_halves_ratio(dim)
    at_floor: Any = False
    defined = (product != 0) & defined
    if floored:
        at_floor = defined & (inner * most < product)
        defined = defined & ((inner * most >= product) | (inner != inner))  # also for NaN, which no guard hides
    numerator, denominator = formulas.score_fraction(t_a, t_b, inner, dim)
    # 0·product, which is NaN for points that are not finite.
    score = where(defined, numerator, 0.0 * product) / where(defined, denominator, 1.0)
    return where(at_floor, (most - 1) / (dim - 1), score) if floored else score


def bounded(score: Any) -> Any:
    """Clip a float to [0, 1], which rounding can leave; clipping a tensor would cut off its gradient."""
    return min(max(score, 0.0), 1.0) if isinstance(score, float) else score
