"""The last steps of a score as one step of autograd: a dozen operations on numbers cost more than the product before.

On a CPU, where values are at hand, they are taken as Python's numbers; elsewhere as 0-d tensors, which nobody waits
for, in fewer operations than autograd would need.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch.points import concrete, on_cpu, transformed
from isoscore_star.core import formulas
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import shrinkage_weights


def shrunk_score(invariants: Invariants, zeta: Any, dim: int) -> Any:
    """Return IsoScore*, or NotImplemented where autograd has to see every operation.

    Parameters
    ----------
    invariants : Invariants
        0-d tensors; those of Σ_S may be numbers.
    zeta : float or Tensor
        ζ; a tensor may have a gradient, which is not known here.
    dim : int
        d.
    """
    t, f, cross, t0, f0 = invariants.t, invariants.f, invariants.cross, invariants.t0, invariants.f0
    if not isinstance(zeta, float) or not _may_be_one_step(t, f, t0, f0):
        return NotImplemented
    a, b = 1.0, 0.0
    if cross is None or zeta == 0:
        cross, t0, f0 = t.new_zeros(()), 0.0, 0.0
    else:
        unit, target_unit = _looked_at(invariants.unit, invariants.target_unit)
        a, b = shrinkage_weights(zeta, unit, target_unit, _where)
    score, *_ = _ShrunkScore.apply(t, f, cross, t0, f0, a, b, dim)  # type: ignore[no-untyped-call]
    return score


def unbiased_score(invariants: Invariants, dim: int) -> Any:
    """Return the unbiased score with its floor, or NotImplemented where autograd has to see every operation."""
    count, t, f, q = invariants.count, invariants.t, invariants.f, invariants.q
    if not _may_be_one_step(t, f, count):
        return NotImplemented
    score, *_ = _UnbiasedScore.apply(t, f, q, count, dim)  # type: ignore[no-untyped-call]
    return score


def _may_be_one_step(t: Tensor, f: Tensor, *given: Any) -> bool:
    """Return whether autograd may see one step: not while something is traced, nor where it differentiates the rest."""
    if torch.compiler.is_compiling() or transformed() or any(isinstance(a, Tensor) and a.requires_grad for a in given):
        return False
    if not on_cpu(t):  # where nothing is differentiated slopes would be computed for nobody
        return torch.is_grad_enabled() and (t.requires_grad or f.requires_grad)
    return all(concrete(a) is not None for a in (f, *given) if a is not None)  # which fake tensors do not have


def _looked_at(*scalars: Any) -> list[Any]:
    """Return numbers for tensors whose values are at hand; others are not waited for."""
    return [s.item() if isinstance(s, Tensor) and on_cpu(s) else s for s in scalars]


def _where(condition: Any, a: Any, b: Any) -> Any:
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else a if condition else b


def _safe(denominator: Any) -> Any:
    return _where(denominator != 0, denominator, 1.0)


class _ShrunkScore(torch.autograd.Function):
    """IsoScore* of Σ from T, F and C of the points; 0 with zero gradient where Σ is zero.

    On devices its slopes are outputs too, so that the way back is one product each.
    """

    @staticmethod
    def forward(t: Tensor, f: Tensor, cross: Tensor, t0: Any, f0: Any, a: Any, b: Any, dim: int) -> tuple[Tensor, ...]:
        given = _looked_at(t, f, cross, t0, f0)
        mixed_t, mixed_f = _mixed(given, a, b)
        safe = _safe(mixed_f)
        numerator, denominator = formulas.score_fraction(mixed_t, mixed_f, dim)
        score = numerator / _where(mixed_f != 0, denominator, 1.0)
        return _with_slopes(score, t, lambda: _shrunk_slopes(mixed_t, safe, a, b, dim))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *given, ctx.dim = inputs
        _, *slopes = output
        ctx.numbers = [None if isinstance(number, Tensor) else number for number in given]
        ctx.mark_non_differentiable(*slopes)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(tensor if isinstance(tensor, Tensor) else None for tensor in given), *slopes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if grad is None:
            return (None,) * 8
        saved = ctx.saved_tensors
        given, slopes = saved[:7], saved[7:]
        if not slopes or torch.is_grad_enabled():
            given = [number if a is None else a for a, number in zip(given, ctx.numbers, strict=True)]
            given = given if torch.is_grad_enabled() else _looked_at(*given)
            *given, a, b = given
            mixed_t, mixed_f = _mixed(given, a, b)
            slopes = _shrunk_slopes(mixed_t, _safe(mixed_f), a, b, ctx.dim)
        return *(grad * slope for slope in slopes), *(None,) * (8 - len(slopes))


def _mixed(given: Sequence[Any], a: Any, b: Any) -> tuple[Any, Any]:
    """Return T and F of Σ = a·S + b·Σ_S, from T, F, C, T₀ and F₀; for b = 0 those of S itself."""
    t, f, cross, t0, f0 = given
    if isinstance(b, float) and b == 0:
        return t, f
    return formulas.mixed(a, b, t, t0), formulas.mixed_squares(a, b, f, cross, f0)


def _shrunk_slopes(mixed_t: Any, safe_f: Any, a: Any, b: Any, dim: int) -> list[Any]:
    """Return slopes in T, F and, where it counts, C of the points. Where F of Σ is zero so is T, and so are they."""
    on_t, on_f = formulas.score_slopes(mixed_t, safe_f, dim)
    if isinstance(b, float) and b == 0:
        return [on_t, on_f]
    return [on_t * a, on_f * (a * a), on_f * (2 * a * b)]


class _UnbiasedScore(torch.autograd.Function):
    """The unbiased score from T, F, Q and m; 0 with zero gradient below four points or without spread."""

    @staticmethod
    def forward(t: Tensor, f: Tensor, q: Tensor, count: Any, dim: int) -> tuple[Tensor, ...]:
        given = _looked_at(t, f, q, count)
        found = _unbiased(given, dim)
        # 0·F, which is NaN for points that are not finite, however few they are.
        score = _where(found.defined, (found.ratio - 1) / (dim - 1), 0.0 * given[1])
        return _with_slopes(score, t, lambda: _unbiased_slopes(given, found, dim))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, count, ctx.dim = inputs
        _, *slopes = output
        ctx.count = None if isinstance(count, Tensor) else count
        ctx.mark_non_differentiable(*slopes)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, count if ctx.count is None else None, *slopes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if grad is None:
            return (None,) * 5
        t, f, q, count, *slopes = ctx.saved_tensors
        if not slopes or torch.is_grad_enabled():
            given: list[Any] = [t, f, q, ctx.count if count is None else count]
            given = given if torch.is_grad_enabled() else _looked_at(*given)
            slopes = _unbiased_slopes(given, _unbiased(given, ctx.dim), ctx.dim)
        return *(grad * slope for slope in slopes), None, None


class _Unbiased(NamedTuple):
    """PR by unbiased estimates, the one that it is divided by, whether that is its floor, whether there are any."""

    ratio: Any
    denominator: Any
    floored: Any
    defined: Any


def _unbiased(given: Sequence[Any], dim: int) -> _Unbiased:
    t, f, q, m = given
    squared_trace, denominator = formulas.unbiased_squares(t, f, q, m)
    floor = formulas.unbiased_floor(f, m, dim)
    floored = denominator < floor  # not <=, which would hide a NaN
    defined = (m >= 4) & (f != 0)
    denominator = _where(defined, _where(floored, floor, denominator), 1.0)
    return _Unbiased(squared_trace / denominator, denominator, floored, defined)


def _unbiased_slopes(given: Sequence[Any], found: _Unbiased, dim: int) -> list[Any]:
    """Return slopes in T, F and Q."""
    t, _, _, m = given
    ratio, floored = found.ratio, found.floored
    rho_dB_dF = _where(floored, ratio * formulas.unbiased_floor(1.0, m, dim), ratio * ((m - 1) * (m - 2)))
    per_B = _where(found.defined, 1 / ((dim - 1) * found.denominator), 0.0)
    return list(formulas.unbiased_slopes(t, _where(floored, 0.0, ratio), rho_dB_dF, per_B, m))


def _with_slopes(score: Any, like: Tensor, slopes: Callable[[], list[Any]]) -> tuple[Tensor, ...]:
    """Return the score as a tensor; on devices, where looking again is dear, its slopes too."""
    return (score, *slopes()) if isinstance(score, Tensor) else (like.new_tensor(score),)


for _step in (_ShrunkScore, _UnbiasedScore):
    # torch asks for the signature at every apply; finding it anew takes as long as a small product.
    _forward: Callable[..., Any] = _step.forward
    _forward.__signature__ = inspect.signature(_forward)  # type: ignore[attr-defined]
