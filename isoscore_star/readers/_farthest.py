"""The points farthest from the mean, kept while points stream by once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CACHE = 2**20
"""Bytes that are looked at together, so that what is computed of them stays near."""


class Farthest:
    """Keeps the rows farthest from the mean of all rows so far.

    A point may be missed that lies about as far as those that are kept; one that holds a visible share of the variance
    is not.

    Attributes
    ----------
    rows : ndarray of shape (k, d), float64
        At most sixteen.
    mean : ndarray of shape (d,), float64
        Of all rows so far.
    """

    KEPT = 16  # ten are looked at in the end; the mean moves while points arrive, so that some more are kept

    def __init__(self) -> None:
        self._count, self.mean = 0, np.zeros(0)
        self.rows: NDArray[np.float64] = np.zeros((0, 0))

    def take(self, rows: NDArray[Any]) -> None:
        """Take in finite rows."""
        if not len(rows):
            return
        rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
        parts = np.array_split(rows, -(-rows.nbytes // _CACHE))
        # Each part by its own number, so that sums of the largest floats stay in range.
        means = [np.ones(len(part), part.dtype) / part.dtype.type(len(rows)) @ part for part in parts]
        self.count_in(len(rows), sum(means, np.zeros(rows.shape[1])))
        mean = self.mean.astype(rows.dtype)
        lengths = np.concatenate([_squared_lengths(part - mean) for part in parts])
        if not 1e6 * np.finfo(lengths.dtype).tiny < lengths.max() < np.inf:  # squares leave the range
            lengths = _squared_lengths((rows - self.mean) / np.abs(rows).max())
        self.keep(rows[_largest(lengths)].astype(np.float64))

    def count_in(self, count: int, mean: NDArray[np.float64]) -> None:
        """Add to the mean that of rows which are looked at elsewhere."""
        self._count += count
        share = count / self._count
        self.mean = mean if share == 1 else (1 - share) * self.mean + share * mean

    def keep(self, rows: NDArray[np.float64]) -> None:
        """Offer rows, without their part of the mean."""
        rows = np.concatenate([self.rows, rows]) if len(self.rows) else rows
        away = rows - self.mean
        self.rows = rows[_largest(_squared_lengths(away / (np.abs(away).max() or 1.0)))]

    def merge(self, other: Farthest) -> None:
        """Take in the rows of another one."""
        if other._count:
            self.count_in(other._count, other.mean)
            self.keep(other.rows)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is kept, for a file."""
        return {"count": np.array(self._count), "mean": self.mean, "rows": self.rows}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Farthest:
        """Return what `to_arrays` took apart."""
        found = cls()
        found._count, found.mean, found.rows = int(arrays["count"]), arrays["mean"], arrays["rows"]
        return found


def _squared_lengths(away: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.einsum("ij,ij->i", away, away))


def _largest(lengths: NDArray[Any]) -> NDArray[np.int64]:
    return np.argsort(-lengths, kind="stable")[: Farthest.KEPT]
