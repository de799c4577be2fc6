"""`SketchAccumulator`: streaming points, unchecked, in d·k memory; the form of `Accumulator` below d²."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.accumulator import Accumulator
from isoscore_star.core.sketch import SketchedScatter, SketchedSpread, gaussian

_LEAST, _MOST = 1e-140, 1e140
"""Total variances whose squares, and those of their parts, are in range."""


class SketchAccumulator(Accumulator):
    """The points of `isoscore_star.Moments` with a sketch, or of one half of their groups.

    Parameters
    ----------
    size, seed : int
        Columns of Ω and its seed, which all that are merged have in common.
    """

    def __init__(self, size: int, seed: int) -> None:
        super().__init__()
        self.size, self.seed = size, seed
        self.sums: SketchedScatter | None = None
        self._form: SketchedSpread | None = None

    @property
    def count(self) -> int:
        """Number of points so far."""
        return self.sums.count if self.sums else 0

    @property
    def omega(self) -> NDArray[np.float64]:
        """Ω, which is drawn once for all accumulators of the same width."""
        return gaussian(self.dim or 0, self.size, self.seed)

    def spread(self) -> SketchedSpread:
        """Return the centred points so far."""
        if self._form is None:
            dim = self.dim or 0
            zero = np.zeros(dim)
            nothing = SketchedScatter(0, zero, zero, zero, np.zeros((dim, self.size)))
            self._form = SketchedSpread(self.sums.copy() if self.sums else nothing, self.omega)
        return self._form

    def add(self, other: Accumulator) -> None:
        """Take in the points of another accumulator, which stays unchanged."""
        self.dim = other.dim
        if isinstance(other, SketchAccumulator) and other.sums is not None:  # as `Moments` has checked
            self._merge_sums(other.sums.copy())

    def own(self) -> None:
        """Do nothing: no view of the caller's arrays is kept."""

    def is_finite(self) -> bool:
        """Return whether all sums are finite, and their squares in range: a sketch has no unit."""
        sums = self.sums
        if sums is None:
            return True
        in_range = sums.total == 0 or _LEAST < sums.total < _MOST
        return bool(in_range and np.isfinite(sums.product).all())

    def _wait(self, rows: NDArray[Any]) -> None:
        """Multiply a block at once: the product with Ω is worth it for few rows, too."""
        with np.errstate(over="ignore", invalid="ignore"):  # as explained by `is_finite`'s caller
            self._merge_sums(SketchedScatter.of_rows(rows, self.omega))

    def _merge_sums(self, sums: SketchedScatter) -> None:
        self._form = None
        if self.sums is None:
            self.sums = sums
        else:
            self.sums.merge(sums, self.omega)
