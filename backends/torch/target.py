"""Σ_S as the forms of torch's covariance take it: brought into range, with all that the score needs of it alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch.points import concrete, may_be_tracked, on_cpu
from isoscore_star.core.protocol import Invariants

_USUAL = {torch.float32: 2.0**40, torch.float64: 2.0**400}
"""Mean variances up to this, and down to one over it, leave every square in range."""


class Target(NamedTuple):
    """Σ_S/s₀², with s₀² = tr Σ_S/d, in two parts, and its invariants."""

    matrix: Tensor
    """(d, d): Σ_S itself where nobody has to wait for its variance, which saves a copy."""

    variance: float
    """What to divide by: s₀² or 1."""

    unit: Tensor
    """s₀."""

    t0: Any
    f0: Any


def target_of(shrinkage_cov: Tensor | None, dtype: torch.dtype) -> Target | None:
    """Bring Σ_S to the dtype of the products, and into range."""
    if shrinkage_cov is None:
        return None
    matrix = shrinkage_cov.to(dtype)
    return _as_it_is(matrix) or _normalised(matrix)


def with_target(
    count: Any, unit: Tensor, t: Tensor, f: Tensor, q: Tensor | None, cross: Tensor, target: Target | None
) -> Invariants:
    """Put the invariants together, with those of Σ_S if there is one."""
    precision = torch.finfo(t.dtype).eps
    if target is None:
        return Invariants(count, unit, t, f, q, precision=precision)
    return Invariants(count, unit, t, f, q, cross, target.t0, target.f0, target.unit, precision)


def _as_it_is(matrix: Tensor) -> Target | None:
    """Take Σ_S without a copy, and its invariants as numbers, on a CPU, where looking at a value is free."""
    if not on_cpu(matrix) or may_be_tracked(matrix) or (trace := concrete(matrix.trace())) is None:
        return None
    variance = trace / len(matrix)
    if not 1 / _USUAL[matrix.dtype] <= variance <= _USUAL[matrix.dtype]:
        return None
    squares = torch.linalg.vector_norm(matrix.detach(), dim=1).double().square().sum().item()
    return Target(matrix, variance, matrix.new_tensor(math.sqrt(variance)), len(matrix), squares / variance / variance)


def _normalised(matrix: Tensor) -> Target:
    """Divide by the largest variance before anything is squared or summed; no covariance is larger than that.

    On devices each operation has a price of its own, so it is that, not the mean variance, that s₀ is the root of.
    """
    largest = matrix.detach().diagonal().amax()
    scaled = matrix / (largest + (largest == 0))
    return Target(scaled, 1.0, largest.sqrt(), scaled.trace(), (scaled * scaled).sum())
