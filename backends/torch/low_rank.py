"""Σ_S by its leading directions, for the anchored loss: 2·m·d·k multiplications of m points instead of m·d²."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.core import formulas
from isoscore_star.core.scaling import Target, not_zero

_PASSES = 2
"""Multiplications by Σ_S that turn a basis to its leading directions; its memory of any other falls by (λⱼ/λₖ)²."""


class LeadingDirections(nn.Module):
    """Σ_S by an orthonormal basis of about its k leading directions, found anew for each Σ_S without its eigenvalues.

    It begins with a random matrix, but always with the same one, so that no state has to be saved.
    """

    start: Tensor

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("start", torch.randn(dim, rank, generator=generator), persistent=False)
        self._last: tuple[Tensor, Any, tuple[Target, Any]] | None = None

    def extra_repr(self) -> str:
        """Show the rank."""
        return f"rank={self.rank}"

    @torch.no_grad()
    def forward(self, target: Target, cov: Tensor) -> tuple[Target, Any]:
        """Return Σ_S as U·K·Uᵀ, the factors U and K in one matrix (d + k, k), and the ρ′ of a further ρ′·I.

        Trace and squares stay those of the whole Σ_S; see `formulas.rest_of_low_rank`. The same Σ_S, `cov`, is
        decomposed once.
        """
        if torch.compiler.is_compiling() or transformed() or cov.is_inference():
            return self._decomposed(target)
        last, kind = self._last, (cov._version, target.matrix.dtype)
        # The last Σ_S is kept, so that its place in memory is no other's.
        if last is None or last[0].data_ptr() != cov.data_ptr() or last[1] != kind:
            last = self._last = cov, kind, self._decomposed(target)
        return last[2]

    def _decomposed(self, target: Target) -> tuple[Target, Any]:
        basis = self.start.to(target.matrix)
        for _ in range(_PASSES):
            basis = torch.linalg.qr(target.matrix @ basis).Q
        compressed = basis.T @ (target.matrix @ basis) / target.divisor
        within, squares = compressed.trace(), (compressed * compressed).sum()
        taken, rest = formulas.rest_of_low_rank(target.t0, target.f0, within, squares, *basis.shape)
        rest = rest / not_zero(torch.as_tensor(target.t0, device=basis.device), torch.where)
        core = torch.diagonal_scatter(compressed, compressed.diagonal() - taken)
        return target._replace(matrix=torch.cat([basis, core]), divisor=1.0), rest


def factors(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return U and K of the Σ_S that `LeadingDirections` returns; None for a whole one."""
    rows, columns = matrix.shape
    return None if rows == columns else (matrix[: rows - columns], matrix[rows - columns :])
