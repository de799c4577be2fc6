"""The scatter of all points as W + B: within classes, and between their means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.spread import Spread
from isoscore_star.groupwise._centred import Centred

FloatArray = NDArray[np.float64]

_WIDEST = 2**13
"""Dimensions up to which two matrices of so many rows and columns are kept, 512 MiB each."""


class Split:
    """Sums W and B over classes, both by themselves, in the unit of all points.

    W is not S − B, which has lost its digits where classes are far apart.
    """

    def __init__(self, whole: Spread) -> None:
        dim = len(whole.anchor)
        self._whole = whole
        self.within, self.between = np.zeros((dim, dim)), np.zeros((dim, dim))

    @classmethod
    def within_memory(cls, whole: Spread) -> Split | None:
        """Return sums to be filled; None for so many dimensions that they would not fit."""
        return cls(whole) if len(whole.anchor) <= _WIDEST else None

    def take(self, clouds: Centred) -> None:
        """Take in classes of as many points."""
        b, n, dim = clouds.rows.shape
        ratios = clouds.units / self._whole.unit
        self._take_means(n, clouds.anchors, clouds.offsets, ratios[:, None])
        if n > 1:
            rows = clouds.rows
            if (ratios != 1).any():
                rows = rows * ratios[:, None, None]
            flat = rows.reshape(b * n, dim)
            self.within += flat.T @ flat

    def take_spread(self, spread: Spread) -> None:
        """Take in a class that was summed block by block."""
        ratio = spread.unit / self._whole.unit
        self._take_means(spread.count, spread.anchor[None], spread.offset[None], ratio)
        self.within += spread.matrix() * (ratio * ratio)

    def _take_means(self, n: int, anchors: FloatArray, offsets: FloatArray, ratios: Any) -> None:
        """Add n·δδᵀ for each class; its anchor less the other one first, so that a large mean cancels."""
        whole = self._whole
        apart = (anchors - whole.anchor) / whole.unit - whole.offset + offsets * ratios
        self.between += n * (apart.T @ apart)
