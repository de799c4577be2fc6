"""Scores of clouds of independent points, as many in each: score, unbiased score and its standard error.

What `isoscore_star.core.standard_error` has from the moments of one cloud, here from batched products. Of a Gram matrix
K = XXᵀ of centred points, ‖A‖² = ‖K‖², aᵢ = Kᵢᵢ, bᵢ = xᵢᵀAxᵢ = Σⱼ Kᵢⱼ² and gᵢ = xᵢ·z = Σⱼ Kᵢⱼaⱼ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import formulas
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import rounding_of_margin, shrunk_score, unbiased_score_of_sums
from isoscore_star.groupwise._centred import Centred

FloatArray = NDArray[np.float64]


class Figures(NamedTuple):
    """Scores, unbiased scores and their standard errors, one a cloud; NaN where there is none."""

    scores: FloatArray
    unbiased: FloatArray
    errors: FloatArray


class _Sums(NamedTuple):
    """aᵢ, bᵢ and gᵢ, shape (b, n); see `isoscore_star.core.formulas.leave_one_out`."""

    a: FloatArray
    b: FloatArray
    g: FloatArray


def figures_of(clouds: Centred, *, with_unbiased: bool = True) -> Figures:
    """Compute what is known of each cloud, or its score alone."""
    count, n, dim = clouds.rows.shape
    nothing = np.full(count, np.nan)
    if n < 2:
        return Figures(nothing, nothing, nothing)
    a, b, g = _sums(clouds.rows)
    t = a.sum(axis=1)
    has_spread = t > 0
    t = np.where(has_spread, t, 1.0)[:, None]
    a, b, g = a / t, b / t / t, g / t / t  # in units of the trace, which is 1
    f, q = b.sum(axis=1), np.einsum("ij,ij->i", a, a)
    scores = shrunk_score(Invariants(n, 1.0, np.ones(count), f), 0.0, dim, np.where)
    scores = np.where(has_spread, np.clip(scores, 0.0, 1.0), np.nan)
    if n < 4 or not with_unbiased:
        return Figures(scores, nothing, nothing)

    def unbiased(m: int, t: Any, f: Any, q: Any) -> FloatArray:
        rounding = rounding_of_margin(n, clouds.precision)
        return np.asarray(unbiased_score_of_sums(m, t, f, q, dim, np.where, rounding))

    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.where(has_spread, unbiased(n, 1.0, f, q), np.nan)
        if n < 5:
            return Figures(scores, whole, nothing)
        left: Any = formulas.leave_one_out(n, 1.0, f[:, None], q[:, None], a, b, g)  # type: ignore[arg-type]
        errors = np.sqrt((n - 1) * np.var(unbiased(n - 1, *left), axis=1))
    return Figures(scores, whole, np.where(np.isfinite(whole), errors, np.nan))


def _sums(rows: NDArray[Any]) -> _Sums:
    """Sum by the cheaper product: a symmetric one of n × n, or one of d × d and one more by the rows."""
    _, n, dim = rows.shape
    across = rows.transpose(0, 2, 1)
    if n <= 2 * dim:
        gram = np.asarray(rows @ across, np.float64)
        a = np.einsum("kii->ki", gram).copy()
        return _Sums(a, np.einsum("kij,kij->ki", gram, gram), (gram @ a[..., None])[..., 0])
    a = np.einsum("kij,kij->ki", rows, rows)
    b = np.einsum("kij,kij->ki", rows @ (across @ rows), rows)
    g = rows @ (across @ a[..., None])
    return _Sums(*(np.asarray(part, np.float64) for part in (a, b, g[..., 0])))
