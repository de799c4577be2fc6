"""Why a score is what it is: shares of 1/PR, scores after a change, other measures, and a verdict in words."""

from isoscore_star.explanation._cloud import halves_of
from isoscore_star.explanation._decomposition import split_of
from isoscore_star.explanation._explanation import Explanation, explained
from isoscore_star.explanation._parts import between_classes, require_all
from isoscore_star.explanation._terms import Between, Coordinate, Direction, Measure, Part, WhatIf

__all__ = [
    "Between",
    "Coordinate",
    "Direction",
    "Explanation",
    "Measure",
    "Part",
    "WhatIf",
    "between_classes",
    "explained",
    "halves_of",
    "require_all",
    "split_of",
]
