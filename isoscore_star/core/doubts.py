"""Sentences that warn of what a measurement's numbers rest on."""

from __future__ import annotations

from isoscore_star.core import interval
from isoscore_star.core.longest_points import LongestPoints
from isoscore_star.core.neighbours import Resemblance

MUCH = 0.8
"""Part of ‖S‖² from which on the longest points are warned of. Of Student t points with 5 degrees of freedom they hold
as much in 2 % of samples of 50, and in less than 1 % of 200 and more; one point of 100 times the length of 4,000 others
holds more."""

LARGE_SKETCH_ERROR = 0.05
"""Standard error of log PR of a sketch from which on it is warned of: 5 % of the effective dimensions."""

RESEMBLANCE = 0.06
"""Correlation of neighbouring rows from which on they are taken for tokens.

Word vectors in the order of frequency have .05 (GloVe) and .03 (word2vec). MiniLM's token states have .09, .15, .19,
.19, .14 and .26 in layers 1 to 6 (embeddings .05), of sentences of ten tokens .04, .08, .13, .13, .10 and .33.
"""

CHANCE = 4.0
"""Standard deviations above which a correlation is none by chance."""


def of_few_points(count: int, dim: int, has_unbiased: bool) -> str:
    """Warn of the bias of IsoScore."""
    if count >= dim:
        return ""
    return f"fewer points ({count}) than dimensions ({dim}): IsoScore without shrinkage is far too low here" + (
        "; trust the unbiased score" if has_unbiased else ""
    )


def of_score(
    count: int, group_count: int | None, dim: int, has_unbiased: bool, has_points: bool, has_error: bool
) -> str:
    """Warn of an unbiased score that is missing, or of its interval."""
    if not has_unbiased:
        few = "points" if group_count is None or group_count >= 4 else f"groups ({group_count})"
        return f"too few {few} for the unbiased score"
    if not has_points:
        return "no standard error, which needs the points themselves, a random sample of them, or eight blocks"
    if not has_error:
        return "too few points or groups for a standard error"
    reason = interval.doubt(count, group_count, dim)
    return reason and f"the interval of the unbiased score is no 95 % interval here: {reason}"


def of_independence(found: Resemblance | None) -> str:
    """Warn of points that look like tokens of sequences."""
    if found is None or found.correlation < RESEMBLANCE or found.deviations < CHANCE:
        return ""
    return (
        f"neighbouring rows resemble each other (correlation {found.correlation:.2f}) as tokens of a sequence do; then "
        "the unbiased score and its interval are wrong. Give the sequences: groups=... (--groups), or arrays of three "
        "axes (sequences, tokens, dimensions)"
    )


def of_sketched_points() -> str:
    """Warn of independent points, of which a sketch keeps too little."""
    return (
        "a sketch has no unbiased score of independent points: give each its own group (groups=numpy.arange(m)), or "
        "take exact moments"
    )


def of_sketch(error: float | None) -> str:
    """Warn of a sketch whose own error is large."""
    if error is None or error < LARGE_SKETCH_ERROR:
        return ""
    return (
        f"the effective dimensions are estimated from a sketch to ±{error:.0%}: take more columns (sketch=...), or "
        "exact moments"
    )


def of_longest(longest: LongestPoints | None) -> str:
    """Warn of a few points that hold most of the variance."""
    if longest is None or longest.square_share < MUCH:
        return ""
    what, them = f"the {longest.count} longest points hold", "them"
    if longest.count == 1:
        what, them = "the longest point holds", "it"
    score = "" if longest.score_without is None else f"; without {them} IsoScore is {longest.score_without:.3g}"
    return (
        f"{what} {longest.trace_share:.1%} of the variance and {longest.square_share:.1%} of the squared covariance "
        f"‖S‖², so that scores and interval hang on {them}{score}"
    )
