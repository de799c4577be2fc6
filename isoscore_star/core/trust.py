"""The trust test of the anchored loss: whether Σ_S is still near the covariance of the last batches.

With A of a batch and B = Σ_S, tr A·‖B‖² = tr B·⟨A, B⟩ holds at A = B, whatever their scales. Both sides are averaged
over the steps, since a small batch alone swings by a fifth, and compared.

A running Σ_S of a few batches is never far from the next, so that it is not tested: of few states, its ‖B‖² is too
large (by tr(S)²/n), and the test would fail for that alone.
"""

from __future__ import annotations

from typing import Any, cast

from isoscore_star.core.protocol import Array, Invariants
from isoscore_star.core.scaling import Where

FARTHEST = 1.2
"""tr A·‖B‖²/(tr B·⟨A, B⟩) between this and its inverse: A points where B does, within a fifth."""

SHORT_MEMORY = 0.9
"""A running Σ_S of at most this decay follows the batches: it is one of ten at most."""

USUAL_MEMORY = 0.5
"""Decay of the Σ_S that a loss makes for itself: one that lags pulls less, in whatever form."""

_DECAY = 0.8
"""Of the averages."""


def averaged_sides(sides: tuple[Any, Any], invariants: Invariants, where: Where) -> tuple[Array, Array]:
    """Return the averages of both sides with a batch taken in, if it has a finite variance; zeros have no batch yet."""
    t, cross, t0, f0 = cast(tuple[Any, ...], invariants[2:3] + invariants[5:8])
    own = t * f0 / (t0 * t0), cross / t0  # in units in which neither scale matters
    usable = (t > 0) & (own[0] - own[0] == 0) & (own[1] - own[1] == 0)
    first = sides[0] + sides[1] == 0
    left, right = (
        where(usable, where(first, new, _DECAY * old + (1 - _DECAY) * new), old)
        for old, new in zip(sides, own, strict=True)
    )
    return left, right


def is_near(left: Any, right: Any) -> Any:
    """Return whether the averaged sides are near each other; without a batch they are."""
    return (left <= FARTHEST * right) & (right <= FARTHEST * left)
