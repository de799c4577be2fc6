"""Algorithm 1 of the paper as printed, with eigenvalues: the reference that all else is tested against.

And the score of two covariances, in its slow and obvious form, for two halves of points and for the anchored loss.

It shares only the checks of arguments with the backends.

Source: Rudman & Eickhoff, *Stable Anisotropic Regularization*, ICLR 2024, arXiv 2305.19358, Algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from isoscore_star.core import parameters, value_checks


def isoscore_star(X: Any, shrinkage_cov: Any = None, zeta: float = 0.0) -> float:
    """Compute IsoScore* by the steps of Algorithm 1, in float64.

    Parameters
    ----------
    X : array of shape (m, d)
        Points as rows, m ≥ 2, d ≥ 2.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S, a covariance from many more points.
    zeta : float, default 0
        ζ in [0, 1], the weight of Σ_S.

    Returns
    -------
    float
        IsoScore*; with ζ = 0, IsoScore.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_star`.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import reference
    >>> round(reference.isoscore_star(np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])), 12)
    1.0
    """
    zeta = parameters.zeta(zeta, shrinkage_cov)
    X = value_checks.reference_points(X)
    # The score is invariant to translation and scale: relative to the first point, in units of the largest difference,
    # no digit is lost to a mean far from zero and no square leaves the range of floats.
    X = X - X[0]
    target = value_checks.shrinkage_target(shrinkage_cov, X.shape[1]) if zeta > 0 else np.zeros((X.shape[1],) * 2)
    lengths = (np.abs(X).max() if zeta < 1 else 0.0, np.sqrt(target.diagonal().max()))
    exponent = int(np.frexp(max(lengths))[1])
    target = np.ldexp(target, -2 * exponent)
    S = np.cov(np.ldexp(X, -exponent), rowvar=False, ddof=1) if zeta < 1 else target  # step 1
    S = (1 - zeta) * S + zeta * target  # step 2
    return score_from_eigenvalues(eigvalsh(S))  # step 3


def isoscore_halves(first: Any, second: Any) -> float:
    """Compute the score of two halves of the points, from their covariances A and B written out.

    Parameters
    ----------
    first, second : array of shape (m, d)
        The points of the groups with even numbers and of those with odd numbers, m ≥ 2.

    Returns
    -------
    float
        s(A, B) = (tr A·tr B/⟨A, B⟩ − 1)/(d − 1).

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_star`.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import reference
    >>> corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(reference.isoscore_halves(corners, 2 * corners), 12)
    1.0
    """
    return _pair_score(_covariance(first), _covariance(second))


def isoscore_anchored(X: Any, shrinkage_cov: Any) -> float:
    """Compute 2·s(A, B) − s(B, B), the score of the anchored loss, from A = cov(X) and B = Σ_S written out.

    Parameters
    ----------
    X : array of shape (m, d)
        Points as rows, m ≥ 2, d ≥ 2.
    shrinkage_cov : array of shape (d, d)
        Σ_S.

    Returns
    -------
    float
        The score, which is that of A for A = B.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_star`.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import reference
    >>> points = np.random.default_rng(0).normal(size=(100, 5))
    >>> abs(reference.isoscore_anchored(points, np.cov(points.T)) - reference.isoscore_star(points)) < 1e-12
    True
    """
    A = _covariance(X)
    B = value_checks.shrinkage_target(shrinkage_cov, len(A))
    B = B / B.diagonal().max()
    return 2 * _pair_score(A, B) - _pair_score(B, B)


def _covariance(X: Any) -> NDArray[np.float64]:
    """Return a covariance in units of its largest variance."""
    X = value_checks.reference_points(X)
    X = X - X[0]
    cov = np.cov(X / np.abs(X).max(), rowvar=False, ddof=1)
    return np.asarray(cov / cov.diagonal().max())


def _pair_score(A: NDArray[np.float64], B: NDArray[np.float64]) -> float:
    d = len(A)
    inner = sum(A[i, j] * B[i, j] for i in range(d) for j in range(d))
    return float((np.trace(A) * np.trace(B) / inner - 1) / (d - 1))


def score_from_eigenvalues(eigenvalues: NDArray[np.float64]) -> float:
    """Compute steps 4 to 7 of Algorithm 1.

    Parameters
    ----------
    eigenvalues : ndarray of shape (d,)
        Of the shrunk covariance Σ.

    Returns
    -------
    float
        IsoScore*.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import reference
    >>> round(reference.score_from_eigenvalues(np.array([1.0, 1.0, 1.0, 0.0, 0.0])), 12)
    0.5
    """
    d = len(eigenvalues)
    norm = np.sqrt(np.sum((eigenvalues / eigenvalues.max()) ** 2)) * eigenvalues.max()
    normalised = np.sqrt(d) * eigenvalues / norm  # step 4
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (d - np.sqrt(d)))  # step 5
    phi = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2  # step 6
    return float((d * phi - 1) / (d - 1))  # step 7
