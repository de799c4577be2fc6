"""The last steps of a score as one step of autograd, whose slopes are written by hand.

Values are those of `isoscore_star.core.score`, called on Python's numbers where looking at them is free (a CPU), and on
0-d tensors elsewhere. Only `score_in_one_step` is for use outside. It is not measured on a GPU since it got this form;
on one CPU thread it buys .80 against .82 ms for 32 points of 768 dimensions, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import concrete, transformed
from isoscore_star.backends.torch.points import on_cpu
from isoscore_star.core import formulas
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import not_zero
from isoscore_star.core.score import mixed, unbiased_estimates

_Slopes = tuple[Any, ...]


def score_in_one_step(invariants: Invariants, zeta: Any, dim: int) -> Any:
    """Return IsoScore*, or for ζ = None the unbiased score with its floor.

    NotImplemented where autograd has to see every operation.
    """
    names: tuple[str, ...] = ("t", "f")
    score: Any = _shrunk
    given = [invariants.t0, invariants.f0]
    if zeta is None:
        score, names, given = _unbiased, ("t", "f", "q"), [invariants.count]
    elif not isinstance(zeta, float):
        return NotImplemented
    elif invariants.cross is not None and zeta != 0:
        names = ("t", "f", "cross")
    tensors = [getattr(invariants, name) for name in names]
    if not _may_be_one_step(*tensors[:2], *given):
        return NotImplemented
    known = Invariants(*map(_number, invariants))

    def compute(*values: Any) -> Any:
        return score(known._replace(**dict(zip(names, values, strict=True))) if values else known, zeta, dim)

    return _OneStep.apply(compute, *tensors)  # type: ignore[no-untyped-call]


def _may_be_one_step(t: Tensor, f: Tensor, *given: Any) -> bool:
    """Return whether autograd may see one step: not while something is traced, nor where it differentiates the rest."""
    if torch.compiler.is_compiling() or transformed() or any(isinstance(a, Tensor) and a.requires_grad for a in given):
        return False
    if not on_cpu(t):  # where nothing is differentiated slopes would be computed for nobody
        return torch.is_grad_enabled() and (t.requires_grad or f.requires_grad)
    return all(concrete(a) is not None for a in (f, *given) if a is not None)  # which fake tensors do not have


def _number(scalar: Any) -> Any:
    """Return a number for a tensor that nobody has to wait for."""
    return scalar.item() if isinstance(scalar, Tensor) and on_cpu(scalar) else scalar


def _where(condition: Any, a: Any, b: Any) -> Any:
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else a if condition else b


class _OneStep(torch.autograd.Function):
    """A score and its slopes in the invariants that are differentiated, computed together."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., Any], *invariants: Tensor) -> Tensor:
        score, ctx.slopes = compute()
        ctx.compute = compute
        ctx.save_for_backward(*invariants)
        return score if isinstance(score, Tensor) else invariants[0].new_tensor(score)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        slopes = ctx.compute(*ctx.saved_tensors)[1] if torch.is_grad_enabled() else ctx.slopes
        return None, *(grad * slope for slope in slopes)


def _shrunk(invariants: Invariants, zeta: float, dim: int) -> tuple[Any, _Slopes]:
    """Return IsoScore* and its slopes in T, F and, where it counts, C of the points."""
    found = mixed(invariants, zeta, _where)
    a, b = found.a, found.b
    # Where F of Σ is zero so is T, and so are the slopes.
    on_t, on_f = formulas.score_slopes(found.t, not_zero(found.f, _where), dim)
    slopes = (on_t * a, on_f * (a * a), on_f * (2 * a * b))
    return found.score(dim, _where), slopes if invariants.cross is not None and zeta != 0 else slopes[:2]


def _unbiased(invariants: Invariants, _: None, dim: int) -> tuple[Any, _Slopes]:
    """Return the unbiased score with its floor and its slopes in T, F and Q."""
    found = unbiased_estimates(invariants, dim, _where, floored=True)
    m, denominator = invariants.count, _where(found.defined, found.denominator, 1.0)
    rho = found.squared_trace / denominator
    rho_dB_dF = _where(found.at_floor, rho * formulas.unbiased_floor(1.0, m, dim), rho * ((m - 1) * (m - 2)))
    per_B = _where(found.defined, 1 / ((dim - 1) * denominator), 0.0)
    slopes = formulas.unbiased_slopes(invariants.t, _where(found.at_floor, 0.0, rho), rho_dB_dF, per_B, m)
    return found.score(dim, _where), slopes
