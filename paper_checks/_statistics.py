"""How numbers over seeds are summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        form = "+.3f" if max(abs(self.low), abs(self.high)) >= 0.01 else "+.1g"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"

    @property
    def sign(self) -> int:
        """1 or -1 where the interval is clear of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Give the mean of `first` - `second`, run by run, with Student's t interval over at least two runs."""
    differences = np.subtract(first, second)
    mean, error = float(differences.mean()), float(stats.sem(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Show the mean and the standard deviation over runs; what would round to 0 with two digits of its own."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    if 0 < abs(mean) < 10 ** (1 - digits):
        return f"{mean:.2g} ± {deviation:.1g}"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Give Spearman's rank correlation; 0 where one of both is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(stats.spearmanr(x, y).statistic)
