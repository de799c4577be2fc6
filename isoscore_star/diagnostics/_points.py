"""Scaled, centred and normalized points, with which nothing overflows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isoscore_star import DegenerateDataError, arguments

FloatArray = NDArray[np.float64]


def in_unit(points: FloatArray) -> FloatArray:
    """Divide all points by a power of two, so that no value exceeds 1 and squares stay in range; 0 stays 0."""
    exponent = int(np.frexp(np.abs(points).max(initial=0.0))[1])
    return np.asarray(np.ldexp(points, -exponent))


def centred(points: FloatArray) -> FloatArray:
    """Subtract the mean, in units of about the largest deviation; raise for identical points."""
    # One point is subtracted first: identical points become exact zeros, and a far mean costs no digits.
    points = in_unit(points)
    moved = points - points[0]
    if not moved.any():
        raise arguments.identical_points(len(points))
    moved = in_unit(moved)
    return np.asarray(moved - moved.mean(axis=0))


def on_sphere(points: FloatArray, why: str) -> FloatArray:
    """Divide each point by its length; raise if one is the origin, which has no direction."""
    largest = np.abs(points).max(axis=1, keepdims=True)
    origins = np.flatnonzero(largest == 0)
    if len(origins):
        raise DegenerateDataError(
            "X",
            f"{why} needs directions; got {len(origins)} points at the origin, the first in row {origins[0]} of "
            "those that count. Mask them",
        )
    scaled = points / largest
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))
