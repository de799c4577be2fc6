"""From invariants to scores: the last step of the flow, the same for every backend and for streaming moments.

`isoscore_star._formulas` has the mathematics; here its fractions are guarded, so that neither the value nor the
gradient can become NaN: the condition of every ``where`` keeps the chosen branch's own denominator away from zero.
Points that are not finite give NaN, which differs from 0, so that no guard hides it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isoscore_star import _formulas
from isoscore_star._protocol import Array, Invariants

Where = Callable[[Any, Any, Any], Any]


def shrunk_score(invariants: Invariants, zeta: float, dim: int, where: Where) -> Array:
    """IsoScore* of Σ = (1−ζ)S + ζΣ_S, or 0 with zero gradient where Σ is zero."""
    t, f = invariants.t, invariants.f
    if invariants.t0 is not None and invariants.cross is not None and invariants.f0 is not None:
        t = _formulas.shrink(zeta, t, invariants.t0)
        f = _formulas.shrink_squared(zeta, f, invariants.cross, invariants.f0)
    numerator, denominator = _formulas.score_fraction(t, f, dim)
    return numerator / where(f != 0, denominator, 1.0)


def unbiased_score(invariants: Invariants, dim: int, where: Where, *, floored: bool) -> Array:
    """Score from the unbiased PR; 0 with zero gradient below four points or without spread.

    ``floored`` keeps the denominator up, for the training path and wherever values are not known; otherwise it has to
    be known to be positive.
    """
    m, f = invariants.count, invariants.f
    squared_trace, denominator = _unbiased_squares(invariants)
    if floored:
        floor = _formulas.unbiased_floor(f, m, dim)
        denominator = where(denominator > floor, denominator, floor)
    defined = (m >= 4) & (f != 0)
    return where(defined, squared_trace - denominator, 0.0) / where(defined, (dim - 1) * denominator, 1.0)


def unbiased_margin(invariants: Invariants) -> Array:
    """Estimate of tr(Σ²) relative to the terms it is made of; up to some ε of these it is nothing but rounding."""
    m, t, f, q = invariants.count, invariants.t, invariants.f, invariants.q
    return _unbiased_squares(invariants)[1] / ((m - 1) * (m - 2) * f + t * t + m * q)


def _unbiased_squares(invariants: Invariants) -> tuple[Any, Any]:
    q: Any = invariants.q
    return _formulas.unbiased_squares(invariants.t, invariants.f, q, invariants.count)
