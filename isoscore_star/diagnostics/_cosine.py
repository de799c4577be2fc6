"""Average cosine similarity of two random points."""

from __future__ import annotations

from typing import Any

from isoscore_star import arguments
from isoscore_star.diagnostics._points import on_sphere


def average_cosine_similarity(X: Any, *, mask: Any = None) -> float:
    """Compute the average cosine of two different points, over all pairs, exactly and in O(m·d).

    The "average random cosine similarity" of Ethayarajh [1]_, which is usually estimated from sampled pairs. With
    uᵢ = xᵢ/‖xᵢ‖ the sum over all pairs is ‖Σuᵢ‖² − m. It depends on the mean rather than on how variance is spread
    [2]_.

    Parameters
    ----------
    X, mask :
        Points as rows, m ≥ 2, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        In [−1/(m − 1), 1]: near 0 for points around the origin, 1 if all point in one direction.

    Raises
    ------
    DegenerateDataError
        If there are fewer than two points, or one is the origin.
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Ethayarajh. *How Contextual are Contextualized Word Representations?* EMNLP 2019. arXiv 1909.00512.
    .. [2] Rudman, Gillman, Rayne, Eickhoff. *IsoScore.* Findings of ACL 2022. arXiv 2108.07344.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> diagnostics.average_cosine_similarity(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
    0.333...
    """
    directions = on_sphere(arguments.points(X, mask, "a cosine"), "a cosine")
    m = len(directions)
    total = directions.sum(axis=0)
    return float((total @ total - m) / (m * (m - 1)))
