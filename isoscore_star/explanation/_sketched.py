"""What a sketch tells of a spectrum: its leading directions, every coordinate's variance, and sums over the rest."""

from __future__ import annotations

import math

import numpy as np

from isoscore_star.core import formulas
from isoscore_star.core.sketch import SketchedSpread
from isoscore_star.explanation._decomposition import NAMED, named_coordinates
from isoscore_star.explanation._terms import Coordinate, Direction, Measure, WhatIf
from isoscore_star.explanation._what_ifs import REMOVED, name_without


def sketched_directions(spread: SketchedSpread) -> tuple[Direction, ...]:
    """Return estimates of the leading directions, and the others together."""
    p, squares = _fractions(spread)
    named = min(NAMED, len(p))
    found = [Direction(j, float(p[j]), float(p[j] ** 2 / squares), None) for j in range(named)]
    rest = Direction(None, float(1 - p[:named].sum()), float(1 - np.sum(p[:named] ** 2) / squares), None)
    return (*found, rest)


def sketched_coordinates(spread: SketchedSpread, factor: float) -> tuple[Coordinate, ...]:
    """Return the outlier coordinates, and all others together; only ‖A‖² is an estimate."""
    fractions = spread.diagonal() / spread.total
    return named_coordinates(fractions, fractions**2 / _fractions(spread)[1], None, factor)


def sketched_what_ifs(spread: SketchedSpread) -> tuple[WhatIf, ...]:
    """Return the score without leading directions; other changes need the covariance."""
    p, _ = _fractions(spread)
    dim, found = len(spread.anchor), []
    for k in REMOVED:
        if k >= len(p) or not p[k - 1]:
            break
        trace, left = float(1 - p[:k].sum()), spread.squares_without(k) / spread.total / spread.total
        if trace > 8 * spread.precision * math.sqrt(dim) and left > 0:
            ratio = max(1.0, trace / left * trace)
            score = formulas.score_from_participation_ratio(ratio, dim)
            found.append(WhatIf(name_without(k), score, None, ratio))
    return tuple(found)


def sketched_measures(spread: SketchedSpread) -> tuple[Measure, ...]:
    """Return the one spectral measure that needs no more than the first eigenvalue and the trace."""
    p, _ = _fractions(spread)
    source, note = "Rudelson & Vershynin, J. ACM 2007", "from a sketch; the others need the covariance"
    return (Measure("stable rank, centred", float(1 / p[0]), str(len(spread.anchor)), source, note),)


def _fractions(spread: SketchedSpread) -> tuple[np.ndarray, float]:
    """Return the leading eigenvalues as fractions of the variance, and 1/PR, which is at least their squares' sum."""
    p = spread.eigenvalues() / spread.total
    return p, max(spread.squares / spread.total / spread.total, float(p @ p))
