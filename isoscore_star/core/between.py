"""The part of a scatter that lies between groups: A = W + B, with B = Σ n_g·(μ_g − μ)(μ_g − μ)ᵀ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.keyed_sums import KeyedSums
from isoscore_star.core.spread import Spread, centred

FloatArray = NDArray[np.float64]

_MOST_ENTRIES = 2**26
"""Of the sums over groups, which are kept until all points are seen: 512 MiB."""


class GroupSums:
    """Sums of the centred points of each group, over blocks of any order."""

    def __init__(self, spread: Spread, group_count: int) -> None:
        self._spread = spread
        self._sizes = np.zeros(group_count)
        self._sums = np.zeros((group_count, len(spread.anchor)))

    @classmethod
    def within_memory(cls, spread: Spread, group_count: int) -> GroupSums | None:
        """Return sums to be filled; None for so many groups that they would not fit."""
        return cls(spread, group_count) if group_count * len(spread.anchor) <= _MOST_ENTRIES else None

    def take(self, rows: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        """Take in points and the numbers of their groups."""
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            own = centred(self._spread, rows[part])
            found, index = np.unique(numbers[part], return_inverse=True)
            members = csr_array((np.ones(len(own)), (index, np.arange(len(own)))), shape=(len(found), len(own)))
            self._sizes[found] += np.bincount(index)
            self._sums[found] += members @ own

    def sums(self) -> KeyedSums:
        """Return what was taken, by the numbers of the groups."""
        return KeyedSums.of(self._sizes > 0, self._sizes, self._sums)

    def add(self, sums: KeyedSums) -> None:
        """Take in what was taken elsewhere, with the same spread."""
        sums.add_to(self._sizes, self._sums)

    def scatter(self) -> FloatArray:
        """Return B, in the unit of the spread."""
        met = self._sizes > 0
        rows = self._sums[met] / np.sqrt(self._sizes[met])[:, None]
        return np.asarray(rows.T @ rows)
