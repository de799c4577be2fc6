"""Clouds of as many points, centred each by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.spread import precision_of, units_of

FloatArray = NDArray[np.float64]


class Centred(NamedTuple):
    """b clouds of n rows, anchor + unit·(offset + row) each, with rows of mean zero; rows that do not count are zero.

    Each cloud has an anchor, the first of its points, so that identical points have no variance at all, and a unit of
    its own, so that no product leaves the range of floats.
    """

    rows: NDArray[Any]
    anchors: FloatArray
    units: FloatArray
    offsets: FloatArray

    @property
    def precision(self) -> float:
        """Relative rounding of a row's entries."""
        return float(np.finfo(self.rows.dtype).eps)


def centred(points: NDArray[Any], counted: NDArray[np.bool_] | None = None) -> Centred:
    """Centre clouds, shape (b, n, d); `counted` (b, n) says which of the rows count, the first ones of each."""
    precision = precision_of(points)
    anchors = points[:, 0].astype(precision)
    with np.errstate(over="ignore"):  # of float32
        rows = np.subtract(points, anchors[:, None], dtype=precision)
    if counted is not None:
        rows *= counted[..., None]
    lengths = np.maximum(rows.max(axis=(1, 2)), -rows.min(axis=(1, 2)))
    units = units_of(lengths)
    if (units != 1).any() or not np.isfinite(lengths).all():
        if precision is np.float32:
            return centred(points.astype(np.float64), counted)
        rows /= units[:, None, None]
    n: Any = rows.shape[1] if counted is None else np.maximum(counted.sum(axis=1), 1)[:, None]
    offsets = rows.sum(axis=1) / n
    rows -= offsets.astype(precision)[:, None]
    if counted is not None:
        rows *= counted[..., None]
    return Centred(rows, anchors.astype(np.float64), units, offsets.astype(np.float64))
