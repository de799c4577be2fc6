"""Uniformity on the sphere, of Wang & Isola."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import logsumexp

from isoscore_star import arguments
from isoscore_star.diagnostics._points import on_sphere

_BLOCK_ROWS = 1024
_SHARPEST = 1e6  # beyond, the rounding of squared distances would show in the result


def uniformity(X: Any, t: float = 2.0, *, mask: Any = None) -> float:
    """Compute the logarithm of the average Gaussian potential of two different points, on the unit sphere.

    log of the mean, over all pairs i ≠ j, of exp(−t·‖uᵢ − uⱼ‖²), with uᵢ = xᵢ/‖xᵢ‖ [1]_. Takes O(m²·d) time, and
    memory for a block of rows only.

    Parameters
    ----------
    X, mask :
        Points as rows, m ≥ 2, and which of them count; see `isoscore_star.isoscore`.
    t : float, default 2.0
        Sharpness of the potential, above 0 and at most 10⁶; the paper's is 2.

    Returns
    -------
    float
        0 if all points have one direction; the lower, the more uniform (about −2t for uniform points in many
        dimensions).

    Raises
    ------
    DegenerateDataError
        If there are fewer than two points, or one is the origin.
    InvalidValueError, InvalidTypeError
        For a t out of range; as `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Wang, Isola. *Understanding Contrastive Representation Learning through Alignment and Uniformity on the
       Hypersphere.* ICML 2020. arXiv 2005.10242, equation 2 and the code of figure 5.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> round(diagnostics.uniformity(np.array([[1.0, 0.0], [-3.0, 0.0]])), 12)  # squared distance 4 on the sphere
    -8.0
    """
    t = arguments.number("t", t, np.finfo(np.float64).tiny, _SHARPEST)
    directions = on_sphere(arguments.points(X, mask, "a pair"), "uniformity")
    m = len(directions)
    total = -math.inf
    for start in range(0, m, _BLOCK_ROWS):
        block = directions[start : start + _BLOCK_ROWS]
        # 2 − 2·cos has an error of 1e-16, which does not matter in the exponential. Pairs of a point with itself are
        # left out here, since subtracting them from the sum would cost its digits.
        exponents = 2 * t * (np.minimum(block @ directions.T, 1.0) - 1)
        exponents[np.arange(len(block)), start + np.arange(len(block))] = -math.inf
        total = float(np.logaddexp(total, logsumexp(exponents)))
    return total - math.log(m * (m - 1))
