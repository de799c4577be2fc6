"""Measures that are functions of singular values: VarEx, RankMe, condition number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import svdvals

from isoscore_star import InvalidValueError, arguments
from isoscore_star.diagnostics._points import FloatArray, centred, in_unit

RANK_ME_EPSILON = 1e-7
"""What RankMe's authors add to each fraction for float32; kept, so that the value is theirs."""


def varex_score(X: Any, share: float = 0.3, *, mask: Any = None) -> float:
    """VarEx: what the first components would explain if all were equal, over what they explain.

    (k/d) / (λ₁ + … + λ_k)/(λ₁ + … + λ_d) with k = ⌊share·d⌋, at least 1, and λ the eigenvalues of the covariance [1]_.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.
    share : float, default 0.3
        Share of the principal components that are looked at, in (0, 1].

    Returns
    -------
    float
        In [k/d, 1]: 1 if the components explain no more than their share; never below k/d.

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
    spread = _covariance_spectrum(X, mask)
    dim = len(spread)
    k = max(1, math.floor(share * dim + 1e-9))  # 0.29 of 100 are 29, though the product is a little less
    return float(min(1.0, (k / dim) / (spread[:k].sum() / spread.sum())))


def rank_me(X: Any, *, mask: Any = None) -> float:
    """RankMe: the exponential of the entropy of the singular values of X, an effective rank.

    exp(−Σ pₖ·log pₖ) with pₖ = σₖ/Σσ + 10⁻⁷, σ the singular values of X as it is, not centred [1]_ (without the small
    term the effective rank of Roy & Vetterli).

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        Between 1 and min(m, d) (and the little that 10⁻⁷ adds). A mean far from zero lowers it.

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
    """Largest over smallest eigenvalue of the covariance.

    From the singular values of the centred points, which keeps twice the digits that a covariance would; computed by
    LAPACK [1]_.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        At least 1, which is isotropic; infinite if the covariance is singular, as it always is for m ≤ d.

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
    # What LAPACK returns for an exact zero is at most about this (numpy.linalg.matrix_rank draws the line there too).
    if m <= dim or singular[-1] <= singular[0] * max(m, dim) * np.finfo(np.float64).eps:
        return math.inf
    return float((singular[0] / singular[-1]) ** 2)


def _covariance_spectrum(X: Any, mask: Any) -> FloatArray:
    """Eigenvalues of the covariance in units that do not matter, largest first, shape (d,)."""
    points = arguments.points(X, mask, "a covariance")
    singular = _singular_values(points)
    spectrum = np.zeros(points.shape[1])
    spectrum[: len(singular)] = (singular / singular[0]) ** 2
    return spectrum


def _singular_values(points: FloatArray) -> FloatArray:
    return np.asarray(svdvals(centred(points), overwrite_a=True, check_finite=False))
