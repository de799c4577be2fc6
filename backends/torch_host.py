"""The last steps of a score on the host: where values are at hand, a dozen numbers cost less than as many tensors."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from isoscore_star import _formulas
from isoscore_star._protocol import Invariants
from isoscore_star.backends.torch_points import concrete


def score_on_host(invariants: Invariants, zeta: Any, dim: int) -> Any:
    """Give IsoScore*, or NotImplemented where a value would have to be waited for or does not exist.

    Parameters
    ----------
    invariants : Invariants
        0-d tensors; those of Σ_S may be numbers.
    zeta : float or Tensor
        ζ; a tensor may have a gradient, and so is not for the host.
    dim : int
        d.
    """
    t, f, cross = invariants.t, invariants.f, invariants.cross
    t0, f0 = invariants.t0, invariants.f0
    if not isinstance(zeta, float) or t.device.type != "cpu" or concrete(f) is None:
        return NotImplemented
    if cross is None:
        return _Score.apply(t, f, t.new_zeros(()), 0.0, 0.0, 0.0, dim)  # type: ignore[no-untyped-call]
    if not isinstance(t0, float) or not isinstance(f0, float):
        return NotImplemented
    return _Score.apply(t, f, cross, t0, f0, zeta, dim)  # type: ignore[no-untyped-call]


class _Score(torch.autograd.Function):
    """IsoScore* of Σ from T, F and C of the points; 0 with zero gradient where Σ is zero."""

    @staticmethod
    def forward(t: Tensor, f: Tensor, cross: Tensor, t0: float, f0: float, zeta: float, dim: int) -> Tensor:
        mixed_t = _formulas.shrink(zeta, t.item(), t0)
        mixed_f = _formulas.shrink_squared(zeta, f.item(), cross.item(), f0)
        numerator, denominator = _formulas.score_fraction(mixed_t, mixed_f, dim)
        return t.new_tensor(numerator / denominator if mixed_f != 0 else 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.t0, ctx.f0, ctx.zeta, ctx.dim = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        t, f, cross = ctx.saved_tensors
        zeta, keep = ctx.zeta, 1 - ctx.zeta
        if not torch.is_grad_enabled():
            t, f, cross = t.item(), f.item(), cross.item()
        mixed_t: Any = _formulas.shrink(zeta, t, ctx.t0)
        mixed_f: Any = _formulas.shrink_squared(zeta, f, cross, ctx.f0)
        # Where F is zero T is too, and so are both derivatives.
        safe: Any = torch.where(mixed_f != 0, mixed_f, 1.0) if isinstance(mixed_f, Tensor) else mixed_f or 1.0
        on_t, on_f = _formulas.score_slopes(mixed_t, safe, ctx.dim)
        on_cross = None if zeta == 0 else grad * (on_f * (2 * zeta * keep))
        return grad * (on_t * keep), grad * (on_f * (keep * keep)), on_cross, None, None, None, None


# torch asks for the signature at every apply; finding it anew takes as long as a small product.
_Score.forward.__signature__ = inspect.signature(_Score.forward)  # type: ignore[attr-defined]
