"""Measures that are functions of singular values: VarEx, RankMe, condition number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import svdvals

from isoscore_star import InvalidValueError, arguments
from isoscore_star.diagnostics._points import FloatArray, centred, in_unit

RANK_ME_EPSILON = 1e-7
"""Added to each fraction by RankMe's authors, for float32; kept, so that values agree with theirs."""


def varex_score(X: Any, share: float = 0.3, *, mask: Any = None) -> float:
    """Compute VarEx: the variance that the first components would explain if all were equal, over what they explain.

    (k/d) / (λ₁ + … + λ_k)/(λ₁ + … + λ_d) with k = ⌊share·d⌋, at least 1, and λ the eigenvalues of the covariance [1]_.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.
    share : float, default 0.3
        Fraction of the principal components that count, in (0, 1].

    Returns
    -------
    float
        In [k/d, 1]: 1 if the k components explain the fraction k/d of the variance.

    Raises
    ------
    DegenerateDataError
        If there are fewer than two points, or all are identical.
    InvalidValueError, InvalidTypeError
        For a share out of range; as `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Rudman, Gillman, Rayne, Eickhoff. *IsoScore.* Findings of ACL 2022. arXiv 2108.07344.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> diagnostics.varex_score(np.vstack([np.eye(4), -np.eye(4)]) * [3.0, 1.0, 1.0, 1.0])  # (1/4) / (9/12)
    0.333...
    """
    share = arguments.number("share", share, 0.0, 1.0)
    if share == 0:
        raise InvalidValueError("share", "expected a number above 0, and at most 1; got 0, which leaves no component")
    points = arguments.points(X, mask, "a covariance")
    singular = _singular_values(points)
    eigenvalues = (singular / singular[0]) ** 2  # of the covariance, scaled; all others are zero
    dim = points.shape[1]
    k = max(1, math.floor(share * dim + 1e-9))  # 0.29 of 100 are 29, though the product is a little less
    return float(min(1.0, (k / dim) / (eigenvalues[:k].sum() / eigenvalues.sum())))


def rank_me(X: Any, *, mask: Any = None) -> float:
    """Compute RankMe, an effective rank: the exponential of the entropy of the singular values of X.

    exp(−Σ pₖ·log pₖ) with pₖ = σₖ/Σσ + 10⁻⁷, σ the singular values of X, which is not centred [1]_ (without 10⁻⁷ the
    effective rank of Roy & Vetterli).

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        Between 1 and min(m, d), but for what 10⁻⁷ adds. A mean far from zero lowers it.

    Raises
    ------
    DegenerateDataError
        If every point is the origin.
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Garrido, Balestriero, Najman, LeCun. *RankMe: Assessing the Downstream Performance of Pretrained
       Self-Supervised Representations by Their Rank.* ICML 2023. arXiv 2210.02885, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> round(diagnostics.rank_me(np.diag([1.0, 1.0, 1.0, 0.0])), 3)
    3.0
    """
    points = arguments.points(X, mask, "a rank", least=1)
    if not points.any():
        raise arguments.identical_points(len(points))
    singular = svdvals(in_unit(points), overwrite_a=True, check_finite=False)
    fractions = singular / singular.sum() + RANK_ME_EPSILON
    return float(np.exp(-np.sum(fractions * np.log(fractions))))


def condition_number(X: Any, *, mask: Any = None) -> float:
    """Compute the largest over the smallest eigenvalue of the covariance [1]_.

    From LAPACK's singular values of the centred points, which have twice the digits of eigenvalues of a covariance.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        At least 1, which is isotropic; infinite if the covariance is singular, as always for m ≤ d.

    Raises
    ------
    DegenerateDataError
        If there are fewer than two points, or all are identical.
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Golub, Van Loan. *Matrix Computations.* 4th edition, 2013, sections 2.4 and 2.6.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> round(diagnostics.condition_number(np.vstack([np.eye(3), -np.eye(3)]) * [2.0, 1.0, 1.0]), 12)
    4.0
    """
    points = arguments.points(X, mask, "a covariance")
    m, dim = points.shape
    singular = _singular_values(points)
    # LAPACK returns at most about this for an exact zero (also the tolerance of numpy.linalg.matrix_rank).
    if m <= dim or singular[-1] <= singular[0] * max(m, dim) * np.finfo(np.float64).eps:
        return math.inf
    return float((singular[0] / singular[-1]) ** 2)


def _singular_values(points: FloatArray) -> FloatArray:
    return np.asarray(svdvals(centred(points), overwrite_a=True, check_finite=False))
