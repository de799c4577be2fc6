"""Whether rows that follow one another resemble each other, as the tokens of a sequence do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ROWS = 8192
"""Rows that are centred at a time."""

_WHOLE, _EVERY = 2**16, 8
"""So many rows of a cloud are taken whole, of later blocks the first eighth: the correlation of some 10⁵ pairs is known
to 1/√10⁵, and looking at all of them would cost a good part of the product's time."""


class Resemblance(NamedTuple):
    """How much each row resembles the next.

    Attributes
    ----------
    correlation : float
        r = Σcᵢ/Σ‖xᵢ − x̄‖², with cᵢ = (xᵢ − x̄)·(xᵢ₊₁ − x̄): 0 for independent rows, 1 for equal ones.
    deviations : float
        z = Σcᵢ/√Σcᵢ²: of independent rows about standard normal, whatever their tails.
    """

    correlation: float
    deviations: float


class Neighbours:
    """Sums over pairs of neighbouring rows, of clouds whose rows are taken in their order; of long ones over some.

    Each cloud is centred at its own mean; one that is taken in several blocks, at the mean of its rows so far.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> sentences = np.random.default_rng(0).normal(size=(50, 1, 8))
    >>> tokens = sentences + np.random.default_rng(1).normal(size=(50, 20, 8))
    >>> neighbours = iso.Neighbours()
    >>> neighbours.take(tokens.reshape(1000, 8))
    >>> round(neighbours.resemblance().correlation, 1)
    0.5
    """

    def __init__(self) -> None:
        self._products, self._squares, self._lengths = 0.0, 0.0, 0.0
        self._unit: float | None = None
        self.start_cloud()

    def start_cloud(self) -> None:
        """Begin another cloud, whose first row has no neighbour in the last."""
        self._count, self._sum = 0, np.zeros(1)
        self._last: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[Any]) -> None:
        """Take in the next rows of a cloud."""
        if self._count >= _WHOLE:
            rows, self._last = rows[: -(-len(rows) // _EVERY)], None
        if not len(rows):
            return
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self._unit is None:
                largest = float(np.abs(rows[:_ROWS].astype(np.float64)).max())
                self._unit = largest if 0 < largest < math.inf else 1.0
            unit = self._unit
            for start in range(0, len(rows), _ROWS):
                self._sum = self._sum + (rows[start : start + _ROWS] / unit).sum(axis=0, dtype=np.float64)
            self._count += len(rows)
            mean = self._sum / self._count
            for start in range(0, len(rows), _ROWS):
                centred = rows[start : start + _ROWS] / unit - mean
                self._lengths += float(np.vdot(centred, centred))
                if self._last is not None:
                    centred = np.concatenate([[self._last - mean], centred])
                products = np.einsum("ij,ij->i", centred[:-1], centred[1:])
                self._products += float(products.sum())
                self._squares += float(products @ products)
                self._last = centred[-1] + mean

    def merge(self, other: Neighbours) -> None:
        """Add the pairs of other clouds."""
        ratio = (other._unit or 1.0) / (self._unit or other._unit or 1.0)
        self._unit = self._unit or other._unit
        self._products += other._products * ratio**2
        self._lengths += other._lengths * ratio**2
        self._squares += other._squares * ratio**4

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return all that is kept, for a file; see `from_arrays`."""
        sums = np.array([self._products, self._squares, self._lengths, self._unit or 0.0, self._count])
        arrays = {"sums": sums, "sum": self._sum}
        return arrays if self._last is None else arrays | {"last": self._last}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> Neighbours:
        """Return what `to_arrays` took apart, which goes on to the very bit."""
        found = cls()
        found._products, found._squares, found._lengths, unit, count = map(float, arrays["sums"])
        found._unit, found._count = unit or None, int(count)
        found._sum, found._last = np.array(arrays["sum"]), arrays.get("last")
        return found

    def resemblance(self) -> Resemblance | None:
        """Return the resemblance; None where no pair of rows has any variance."""
        if not (0 < self._squares < math.inf and 0 < self._lengths < math.inf):
            return None
        return Resemblance(self._products / self._lengths, self._products / math.sqrt(self._squares))
