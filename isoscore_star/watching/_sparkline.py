"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*%#"
NOT_FINITE = "!"


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """Draw values as bars between their least and their largest.

    Parameters
    ----------
    values : sequence of float
        In their order; more than `width` are averaged.
    width : int
        Signs at most.
    bars : str
        Signs from the lowest to the highest.

    Returns
    -------
    str
        With "!" where no value is finite.

    Examples
    --------
    >>> sparkline([0.0, 1.0, 2.0, 4.0], 10)
    '▁▃▅█'
    >>> sparkline([1.0, 1.0, float("nan")], 10)
    '▄▄!'
    """
    bins = min(width, len(values))
    edges = [index * len(values) // bins for index in range(bins + 1)] if bins else [0]
    means = [_mean(values[start:end]) for start, end in pairwise(edges)]
    known = [mean for mean in means if mean is not None]
    if not known:
        return NOT_FINITE * len(means)
    low, high = min(known), max(known)
    return "".join(NOT_FINITE if mean is None else _bar(mean, low, high, bars) for mean in means)


def _bar(value: float, low: float, high: float, bars: str) -> str:
    if not high > low:
        return bars[(len(bars) - 1) // 2]
    place = (value / 2 - low / 2) / (high / 2 - low / 2)  # halves, whose difference is finite
    return bars[min(int(place * len(bars)), len(bars) - 1)]


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(value / len(finite) for value in finite) if finite else None
