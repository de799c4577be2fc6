"""Sums of rows by a key, such as the number of their group, which merge in the memory of the keys that occur."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class KeyedSums(NamedTuple):
    """Sums for each key that occurs.

    Attributes
    ----------
    keys : ndarray of shape (k,), int64
        In ascending order, each once.
    columns : tuple of ndarray of shape (k,) or (k, d)
        Their sums.
    """

    keys: NDArray[np.int64]
    columns: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, occurs: NDArray[np.bool_], *columns: NDArray[np.float64]) -> KeyedSums:
        """Return the entries of dense arrays whose key, the place in them, occurs."""
        keys = np.flatnonzero(occurs)
        return cls(keys, tuple(column[keys] for column in columns))

    def merge(self, other: KeyedSums) -> KeyedSums:
        """Return the sums over both."""
        keys = np.union1d(self.keys, other.keys)
        columns = []
        for ours, its in zip(self.columns, other.columns, strict=True):
            total = np.zeros((len(keys), *ours.shape[1:]))
            total[np.searchsorted(keys, self.keys)] = ours
            total[np.searchsorted(keys, other.keys)] += its
            columns.append(total)
        return KeyedSums(keys, tuple(columns))

    def add_to(self, *columns: NDArray[np.float64]) -> None:
        """Add them to dense arrays, in place."""
        for dense, own in zip(columns, self.columns, strict=True):
            dense[self.keys] += own
