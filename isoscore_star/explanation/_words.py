"""The verdict in words: every sentence carries the measured facts that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from isoscore_star.core import formulas
from isoscore_star.explanation._terms import Between, Coordinate, Direction, Part, WhatIf

_GAIN = 2.0
"""Factor in effective dimensions from which on what is left out is named as a cause."""

_MUCH_MORE = 1.25
"""Factor by which the second view of a cause has to explain more than the first, to be named."""

_LARGE_MEAN = 0.5
"""Share of E‖x‖² from which on the mean is named: then two random points have more in common than not."""

_DOMINANT = 0.8
"""Share of ‖S‖² of the longest points from which on the score says little of the others."""

_GROUPS = 0.25
"""Share of the variance from which on the groups are named."""


_Cause = tuple[float, str]  # the gain in effective dimensions, and a sentence


@dataclass(frozen=True)
class Facts:
    """What the sentences are made of."""

    score: float
    unbiased_score: float | None
    interval: tuple[float, float] | None
    dim: int
    count: int
    directions: tuple[Direction, ...]
    coordinates: tuple[Coordinate, ...]
    parts: tuple[Part, ...]
    between: tuple[Between, ...]
    what_ifs: tuple[WhatIf, ...]
    mean_share: float
    average_cosine: float | None


def sentences_of(facts: Facts) -> tuple[str, ...]:
    """Return the verdict: how much is used, what pulls it down, and what the score does not see."""
    causes = _causes(facts)
    if not causes:
        causes = [_spectrum(facts)]
    return (_headline(facts), *causes, *_groups(facts), *_mean(facts))


def _headline(facts: Facts) -> str:
    score = facts.score if facts.unbiased_score is None else facts.unbiased_score
    used = _dimensions(score, facts.dim)
    if any(_is_longest(part) and part.share >= _DOMINANT for part in facts.parts):
        unbiased = "" if facts.unbiased_score is None else f", unbiased {_score(score)}"
        return (
            f"Dominated by a few points: the score ({_score(facts.score)} of 1{unbiased}; {facts.dim:,} dimensions) "
            "hangs on them and says little of the others."
        )
    within = ""
    if facts.interval is not None:
        low, high = (min(max(_dimensions(end, facts.dim), 1.0), facts.dim) for end in facts.interval)
        within = f"95 % interval {_number(low)} to {_number(high)}; "
    kind = "" if facts.unbiased_score is not None else ", too low where points are few"
    # An unbiased estimate may lie a little above what is possible.
    return (
        f"{_state(score, used)}: these points use about {_number(min(used, facts.dim))} of {facts.dim:,} dimensions "
        f"evenly ({within}score {_score(min(score, 1.0))} of 1{kind})."
    )


def _state(score: float, used: float) -> str:
    """Return the state in a word; the bounds are ours, the number beside it is what was measured."""
    if used < 2:
        return "Collapsed to one direction"
    if score < 0.01:
        return "Collapsed to few directions"
    if score < 0.1:
        return "Strongly anisotropic"
    return "Anisotropic" if score < 0.5 else "Close to isotropic"


def _causes(facts: Facts) -> list[str]:
    """Name what, left out, would at least double the effective dimensions; the largest gain first.

    Some are one cause seen twice: then the longest points are named only where no kind of points, and the largest
    direction only where no coordinates, explain about as much.
    """
    named = [part for part in facts.parts if not _is_longest(part)]
    longest = [part for part in facts.parts if _is_longest(part)]
    views = (_of_parts(facts, named), _of_parts(facts, longest)), (_of_outliers(facts), _of_first(facts))
    found = []
    for first, second in views:
        most = max((gain for gain, _ in first), default=0.0)
        found += first + [cause for cause in second if cause[0] > most * _MUCH_MORE]
    return [sentence for gain, sentence in sorted(found, key=lambda one: -one[0]) if gain >= _GAIN]


def _is_longest(part: Part) -> bool:
    return part.name.startswith("longest")


def _of_parts(facts: Facts, parts: list[Part]) -> list[_Cause]:
    return [
        (
            _gain(facts, part.score_without),
            f"The {part.name} ({part.count:,} of {facts.count:,} points) hold {part.variance_share:.1%} of the "
            f"variance: without them the score is {_instead(facts, part.score_without, part.unbiased_without)}.",
        )
        for part in parts
        if part.score_without is not None and 2 * part.count < facts.count  # without most points is no cause
    ]


def _of_outliers(facts: Facts) -> list[_Cause]:
    outliers = [coordinate for coordinate in facts.coordinates if coordinate.dimension is not None]
    without = next((one for one in facts.what_ifs if one.name.startswith("without outlier")), None)
    if without is None:
        return []
    which = ", ".join(str(outlier.dimension) for outlier in outliers[:3])
    more = f" and {len(outliers) - 3} more" if len(outliers) > 3 else ""
    share = sum(outlier.variance_share for outlier in outliers)
    subject = f"Outlier coordinates {which}{more} hold" if len(outliers) > 1 else f"Outlier coordinate {which} holds"
    them = "them" if len(outliers) > 1 else "it"
    return [
        (
            _gain(facts, without.score),
            f"{subject} {share:.1%} of the variance: without {them} the score is "
            f"{_instead(facts, without.score, without.unbiased_score)}.",
        )
    ]


def _of_first(facts: Facts) -> list[_Cause]:
    without = next((one for one in facts.what_ifs if one.name == "without the largest direction"), None)
    if without is None:
        return []
    return [
        (
            _gain(facts, without.score),
            f"The largest direction alone holds {facts.directions[0].variance_share:.1%} of the variance: without it "
            f"the score is {_instead(facts, without.score, without.unbiased_score)}.",
        )
    ]


def _gain(facts: Facts, score: float) -> float:
    return _dimensions(score, facts.dim) / _dimensions(facts.score, facts.dim)


def _instead(facts: Facts, score: float, unbiased: float | None) -> str:
    """Compare by one estimator, the unbiased one where both have it, and by the plug-in score beside it."""
    plain = f"{_score(score)} instead of {_score(facts.score)}"
    if unbiased is None or facts.unbiased_score is None:
        return plain
    return f"{_score(unbiased)} instead of {_score(facts.unbiased_score)} (plug-in {plain})"


def _spectrum(facts: Facts) -> str:
    named = [direction for direction in facts.directions if direction.index is not None]
    named = named[: max(1, facts.dim // 4)]
    share = sum(direction.variance_share for direction in named)
    hold = "largest direction holds" if len(named) == 1 else f"{len(named)} largest directions hold"
    first = "" if len(named) == 1 else f", the first {named[0].variance_share:.1%}"
    return (
        f"No single direction, coordinate or kind of point explains it: the {hold} {share:.1%} of the variance "
        f"({len(named) / facts.dim:.1%} if isotropic){first}."
    )


def _groups(facts: Facts) -> list[str]:
    return [
        f"{one.variance_share:.1%} of the variance lies between the means of {one.group_count:,} {one.name}"
        + ("." if one.score_within is None else f"; within them the plug-in score is {_score(one.score_within)}.")
        for one in facts.between
        if one.variance_share >= _GROUPS and one.group_count < facts.count
    ]


def _mean(facts: Facts) -> list[str]:
    """Say what the score does not see: how alike two points are because of the mean."""
    cosine = f"{round(_weighted_cosine(facts), 2) + 0:.2f} on average, weighted by their lengths"
    if facts.average_cosine is not None:
        cosine = f"{round(facts.average_cosine, 2) + 0:.2f} on average"
    shared = (
        f"The mean is {facts.mean_share:.1%} of the points' squared length, and two random points have a cosine of "
    )
    if facts.mean_share < _LARGE_MEAN:
        return [f"{shared}{cosine}; the score does not see the mean."]
    return [
        f"{shared}{cosine}: raw cosine similarities are high for all pairs. The score does not see the mean; "
        "subtracting it removes this part."
    ]


def _weighted_cosine(facts: Facts) -> float:
    """Return Σ xᵢ·xⱼ/((m − 1)·Σ‖xᵢ‖²) over all pairs i ≠ j."""
    return (facts.count * facts.mean_share - 1) / (facts.count - 1)


def _dimensions(score: float, dim: int) -> float:
    return formulas.participation_ratio(score, dim)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _score(score: float) -> str:
    score = max(score, 0.0)  # of one direction rounding may leave a little less
    return f"{score:.2f}" if score >= 0.1 else f"{score:.2g}"
