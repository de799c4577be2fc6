"""Partition score of Mu & Viswanath."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import eigh, svd

from isoscore_star import arguments
from isoscore_star.diagnostics._points import FloatArray

_BLOCK_ROWS = 1024


def partition_score(X: Any, *, mask: Any = None) -> float:
    """Compute the partition score: min Z(c) / max Z(c) over the eigenvectors c of XᵀX, where Z(c) = Σᵢ exp(c·xᵢ).

    A cloud is isotropic in this sense if Z is the same in all directions [1]_ [2]_. The eigenvectors are the columns of
    LAPACK's matrix, and c·x is a dot product: some published code takes rows and elementwise products. Both signs of
    each eigenvector count, since Z differs between them, so the result does not depend on the sign that a library
    returns. Sums of exponentials are computed by their logarithms and cannot overflow.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        In [0, 1]: 1 if Z is the same for every eigenvector. It changes with the scale and the mean of X, and where
        eigenvalues of XᵀX are equal, with the basis that LAPACK chooses.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Mu, Viswanath. *All-but-the-Top: Simple and Effective Postprocessing for Word Representations.* ICLR 2018.
       arXiv 1702.01417, equations 2 and 3.
    .. [2] Arora, Li, Liang, Ma, Risteski. *A Latent Variable Model Approach to PMI-based Word Embeddings.* TACL 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> round(diagnostics.partition_score(np.vstack([np.eye(3), -np.eye(3)])), 12)
    1.0
    """
    points = arguments.points(X, mask, "a partition function", least=1)
    m, dim = points.shape
    unit = max(1.0, float(np.abs(points).max()))  # keeps squares, and the logarithms below, in range
    points /= unit
    if m < dim:
        # Products with the eigenvectors of the nonzero eigenvalues; those with the others are zero.
        left, singular, _ = svd(points, full_matrices=False, overwrite_a=True, check_finite=False)
        products, others = left * singular, [math.log(m) / unit]
    else:
        products, others = points @ eigh(points.T @ points, overwrite_a=True, check_finite=False)[1], []
    with np.errstate(over="ignore"):  # in differences whose exponential is 0
        logarithms = np.concatenate(
            [_log_partition(products, unit), _log_partition(np.negative(products, out=products), unit), others]
        )
        return math.exp(unit * (logarithms.min() - logarithms.max()))


def _log_partition(products: FloatArray, unit: float) -> FloatArray:
    """Return the logarithm, over `unit`, of each column's sum of exp(unit·product), computed block by block."""
    largest = products.max(axis=0)
    sums = np.zeros_like(largest)
    for start in range(0, len(products), _BLOCK_ROWS):
        sums += np.exp(unit * (products[start : start + _BLOCK_ROWS] - largest)).sum(axis=0)
    return np.asarray(largest + np.log(sums) / unit)
