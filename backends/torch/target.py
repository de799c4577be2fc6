"""Σ_S in the dtype of the products, and in range."""

from __future__ import annotations

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import concrete
from isoscore_star.backends.torch.points import may_be_tracked, on_cpu
from isoscore_star.core.scaling import Target, scaled_target, usual_target

_USUAL = {torch.float32: 2.0**40, torch.float64: 2.0**400}
"""For mean variances up to this, and down to its inverse, every square is in range."""


def target_of(shrinkage_cov: Tensor | None, dtype: torch.dtype) -> Target | None:
    """Convert Σ_S to the dtype of the products and scale it, without a copy if its values are known without waiting."""
    if shrinkage_cov is None:
        return None
    matrix = shrinkage_cov.to(dtype)
    if on_cpu(matrix) and not may_be_tracked(matrix) and (trace := concrete(matrix.trace())) is not None:
        usual = usual_target(matrix, trace, _known_squares, _USUAL[dtype])
        if usual is not None:
            return usual._replace(unit=matrix.new_tensor(usual.unit))
    return scaled_target(matrix, matrix.detach().diagonal().amax(), torch.trace, _squares, torch.where)


def _known_squares(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix.detach(), dim=1).double().square().sum().item())


def _squares(matrix: Tensor) -> Tensor:
    return (matrix * matrix).sum()
