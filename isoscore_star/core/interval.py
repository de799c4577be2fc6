"""The 95 % interval of an unbiased score, and where it covers less.

``paper_checks``, claim 5, counts how often it covers the true score.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

from isoscore_star.core import formulas

COVERED_FRACTION = 0.25
"""From this many points, as a fraction of the dimensions, ±1.96 standard errors cover the true score in 93 to 97 % of
samples of independent points, heavy tails included."""

LEAST_GROUPS = 64
"""From this many groups on the interval covers the true score in 93 % of samples or more.

So with equal spectra between and within groups and with steep ones between, of normal points and of heavy tails; worst
are those with a between-part of 1/k, flat within, t of 5 degrees of freedom: 93.5 % of 2,000 with 64 groups, 92.9 and
93.0 % with 32 and 16. Isotropic points, whose log PR has no error of first order, are covered more often.

The number of groups alone decides, since samples whose score is too high have a standard error that is too small: a
rule by the standard error is silent in just those."""

_NORMAL = 1.96
"""95 % of a normal distribution lie within so many standard deviations."""


def of_points(score: float, error: float) -> tuple[float, float]:
    """Return the interval for independent points."""
    return score - _NORMAL * error, score + _NORMAL * error


def of_groups(score: float, error: float, freedom: float, dim: int) -> tuple[float, float]:
    """Return the interval for groups: symmetric in PR², with the quantile of a Student t.

    Symmetric in the score or in log PR it misses the true score more often below than above: a sample without some
    groups of much variance has a score that is too high, with a standard error that is too small.
    """
    ratio = formulas.participation_ratio(score, dim)
    width = 2 * float(stdtrit(freedom, 0.975)) * error * (dim - 1) / ratio
    low = max(1.0, ratio * math.sqrt(max(0.0, 1 - width)))
    high = ratio * math.sqrt(1 + width)
    return formulas.score_from_participation_ratio(low, dim), formulas.score_from_participation_ratio(high, dim)


def doubt(count: int, group_count: int | None, dim: int) -> str:
    """Return why the interval covers less than it says, or nothing."""
    if group_count is not None:
        return f"fewer groups ({group_count}) than {LEAST_GROUPS}" if group_count < LEAST_GROUPS else ""
    return "fewer points than a quarter of the dimensions" if count < COVERED_FRACTION * dim else ""
