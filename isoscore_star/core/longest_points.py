"""The few points that lie farthest from the mean: what they hold of the variance, and the score without them.

A language model may give some tokens states a thousand times as long as all others (massive activations). Then the
score is that of these few, and no estimator knows how far the next sample's lie.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import formulas
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.sketch import SketchedSpread
from isoscore_star.core.spread import FewPoints, Spread, centred

FloatArray = NDArray[np.float64]
Kept = tuple[FloatArray, FloatArray]

_MOST = 10
_SHARE = 100
_LEAST = 20
"""One of a hundred points is looked at, and at most ten; of fewer than twenty none, since one of them is not few."""

_LARGEST_ROUNDING = 1e-3


class LongestPoints(NamedTuple):
    """The few points that lie farthest from the mean, one of a hundred and at most ten.

    Attributes
    ----------
    count : int
        Their number.
    trace_share : float
        Their part of Σ‖x‖², the total variance.
    square_share : float
        The part of ‖S‖² that is lost without them.
    score_without : float or None
        IsoScore of the other points; None where rounding or a variance of zero leaves none.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(1000, 50))
    >>> points[7] *= 100
    >>> longest = iso.measure(points).longest_points
    >>> round(longest.trace_share, 2), round(longest.square_share, 2), round(longest.score_without, 2)
    (0.89, 1.0, 0.95)
    """

    count: int  # type: ignore[assignment]  # tuples have a method of that name
    trace_share: float
    square_share: float
    score_without: float | None


class Longest:
    """Finds the longest points while all points are taken, in blocks of any order."""

    def __init__(self, spread: Spread) -> None:
        self._spread = spread
        self._most = min(_MOST, max(1, spread.count // _SHARE))
        self._rows, self._lengths = np.empty((0, len(spread.anchor))), np.empty(0)

    def take(self, rows: NDArray[Any]) -> None:
        """Take in points."""
        for start in range(0, len(rows), BLOCK_ROWS):
            own = centred(self._spread, rows[start : start + BLOCK_ROWS])
            lengths = np.einsum("ij,ij->i", own, own)
            kept = np.argsort(lengths)[-self._most :]
            self.add((own[kept], lengths[kept]))

    @property
    def kept(self) -> Kept:
        """The longest points so far, centred and in the unit, shape (k, d), and their squared lengths, shape (k,)."""
        return self._rows, self._lengths

    def add(self, kept: Kept) -> None:
        """Take in the longest of other points, with the same spread."""
        self._rows, self._lengths = longest_of((self._rows, self._lengths), kept, self._most)

    def points(self) -> LongestPoints | None:
        """Return what they hold; None of fewer than twenty points."""
        if self._spread.count < _LEAST:
            return None
        spread, total = self._spread, self._spread.total
        if isinstance(spread, SketchedSpread):  # of what they hold together with the others nothing is known
            products = self._rows @ self._rows.T
            squares_share = min(1.0, float(np.vdot(products, products)) / spread.squares) if spread.squares else 0.0
            return LongestPoints(self._most, float(self._lengths.sum() / total), squares_share, None)
        left, squares = _without(spread, self._rows / math.sqrt(total))
        squares_share = max(0.0, 1 - squares * (total / math.sqrt(spread.squares)) ** 2)
        score = None
        rounding = 8 * spread.precision * math.sqrt(spread.squares) / total
        if left > 0 and rounding < _LARGEST_ROUNDING * math.sqrt(squares):
            ratio = left * left / squares
            score = min(1.0, max(0.0, formulas.score_from_participation_ratio(ratio, len(spread.anchor))))
        return LongestPoints(self._most, float(self._lengths.sum() / total), squares_share, score)


def longest_of(ours: Kept, its: Kept, most: int = _MOST) -> Kept:
    """Return the longest points of both."""
    rows, lengths = (np.concatenate(pair) for pair in zip(ours, its, strict=True))
    order = np.argsort(lengths)[-most:]
    return rows[order], lengths[order]


def _without(spread: Spread, rows: FloatArray) -> tuple[float, float]:
    """Return tr A and ‖A‖² of the points without some of them, in units of tr A of all.

    A loses YᵀY + ssᵀ/(m − k), with the k points Y and s their sum: entry by entry, since of the squares fewer digits
    would be left.
    """
    total, rest = spread.total, spread.count - len(rows)
    if isinstance(spread, FewPoints):
        own = spread.rows() / math.sqrt(total)
        lengths = np.einsum("ij,ij->i", own, own)
        others = own[np.argsort(lengths)[: -len(rows)]]
        others = others - others.mean(axis=0)
        products = others @ others.T
        return float(products.trace()), float(np.vdot(products, products))
    lost = np.concatenate([rows, rows.sum(axis=0, keepdims=True) / math.sqrt(rest)])
    scatter, trace, squares = spread.matrix(), 0.0, 0.0
    for start in range(0, len(scatter), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        left = scatter[part] / total - lost[:, part].T @ lost
        trace += float(np.trace(left[:, part]))
        squares += float(np.vdot(left, left))
    return trace, squares
