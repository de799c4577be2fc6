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

_ERROR = 1e-6
"""Relative error up to which W is the difference of A and B."""


class Split:
    """Sums B over classes in the unit of all points, whose scatter is A, and what lies within them.

    W = A − B, unless classes are so far apart that this would be rounding: then W has to be summed by itself, which
    takes all points once more and a product as large as that of A.
    """

    def __init__(self, whole: Spread) -> None:
        dim = len(whole.anchor)
        self._whole, self._trace = whole, 0.0
        self._between, self._within = np.zeros((dim, dim)), np.zeros((dim, dim))
        self._waiting: list[FloatArray] = []  # weighted means, until the product outweighs the sum of d × d numbers
        self._waiting_count = 0

    @classmethod
    def within_memory(cls, whole: Spread) -> Split | None:
        """Return sums to be filled; None for so many dimensions that they would not fit."""
        return cls(whole) if len(whole.anchor) <= _WIDEST else None

    @property
    def is_far(self) -> bool:
        """Whether W has to be summed by itself, by `take_within` of all classes but those of `take_spread`."""
        return self._whole.precision * self._whole.total > _ERROR * self._trace

    def scatters(self) -> tuple[FloatArray, FloatArray]:
        """Return W and B."""
        self._multiply()
        return self._within if self.is_far else self._whole.matrix() - self._between, self._between

    def take(self, clouds: Centred) -> None:
        """Take in the means of classes of as many points, and the trace of W."""
        ratios = self._ratios(clouds)
        self._take_means(clouds.rows.shape[1], clouds.anchors, clouds.offsets, ratios[:, None])
        squares = np.einsum("kij,kij->k", clouds.rows, clouds.rows, dtype=np.float64)
        self._trace += float(np.sum(np.square(np.sqrt(squares) * ratios)))

    def take_within(self, clouds: Centred) -> None:
        """Take in what lies within these classes."""
        rows = clouds.rows * self._ratios(clouds)[:, None, None]
        flat = rows.reshape(-1, rows.shape[2])
        self._within += flat.T @ flat

    def take_spread(self, spread: Spread) -> None:
        """Take in a class that was summed block by block."""
        ratio = spread.unit / self._whole.unit
        self._take_means(spread.count, spread.anchor[None], spread.offset[None], ratio)
        self._within += spread.matrix() * (ratio * ratio)
        self._trace += spread.total * ratio * ratio

    def _ratios(self, clouds: Centred) -> FloatArray:
        # A class of identical points has no length of its own, and its rows are zero.
        return np.where(clouds.rows.any(axis=(1, 2)), clouds.units / self._whole.unit, 0.0)

    def _take_means(self, n: int, anchors: FloatArray, offsets: FloatArray, ratios: Any) -> None:
        """Add n·δδᵀ for each class; its anchor less the other one first, so that a large mean cancels."""
        whole = self._whole
        apart = (anchors - whole.anchor) / whole.unit - whole.offset + offsets * ratios
        self._waiting.append(apart * np.sqrt(n))
        self._waiting_count += len(apart)
        if self._waiting_count >= len(self._between):
            self._multiply()

    def _multiply(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting)
            self._between += rows.T @ rows
            self._waiting, self._waiting_count = [], 0
