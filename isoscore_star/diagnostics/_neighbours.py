"""Distances to nearest neighbours, exact to rounding even for near-duplicates."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from isoscore_star.diagnostics._points import FloatArray

_TREE_DIMENSIONS = 15
"""Up to here a tree is faster than products of matrices (scikit-learn's limit, too)."""
_BLOCK_ROWS = 512
_SPARE = 8


def nearest_distances(points: FloatArray, count: int) -> FloatArray:
    """Return each point's distances to its nearest others, shape (m, count), smallest first.

    From differences of coordinates. ‖a‖² + ‖b‖² − 2·a·b is many times faster for wide points, but loses the digits of
    a distance that is small compared with the points; so it only selects candidates.

    Parameters
    ----------
    points : ndarray of shape (m, d)
        All different, with coordinates in [−1, 1].
    count : int
        Number of neighbours, fewer than m.
    """
    if points.shape[1] <= _TREE_DIMENSIONS:
        return np.asarray(KDTree(points).query(points, count + 1)[0][:, 1:])
    nearest = np.empty((len(points), count))
    centred = points - points.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    # The error of a product of d terms is some d·ε times the squared lengths.
    error = 4 * (points.shape[1] + 4) * np.finfo(np.float64).eps * squares.max()
    for start in range(0, len(points), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(points)))
        estimates = squares[rows, None] + squares - 2 * centred[rows] @ centred.T
        estimates[np.arange(len(rows)), rows] = np.inf
        picked = min(count + _SPARE, len(points) - 1)
        near = np.argpartition(estimates, picked - 1, axis=1)[:, :picked]
        for row, candidates, own in zip(rows, near, estimates, strict=True):
            distances = np.sort(np.linalg.norm(points[candidates] - points[row], axis=1))[:count]
            # Points not picked are at least as far as the estimate of the farthest candidate, less the error.
            if picked < len(points) - 1 and distances[-1] ** 2 > own[candidates].max() - error:
                distances = np.sort(cdist(points[row : row + 1], points)[0])[1 : count + 1]
            nearest[row] = distances
    return nearest
