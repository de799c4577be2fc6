"""Scores of the same points after a change, from their covariances alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import formulas
from isoscore_star.explanation._cloud import Cloud, defined
from isoscore_star.explanation._terms import WhatIf

FloatArray = NDArray[np.float64]
Change = Callable[[FloatArray], FloatArray]

REMOVED = (1, 3, 10)
_NOTHING = 1e-12
"""Fraction of the average variance below which a direction or a coordinate has none."""


def what_ifs_of(cloud: Cloud, outliers: list[int]) -> tuple[WhatIf, ...]:
    """Return the score without leading directions, without outlier coordinates, standardised, and half whitened."""
    diagonal = (np.diag(cloud.eigenvalues), *cloud.rotated)
    plain = (cloud.cov, *(cloud.halves or ()))
    found = []
    for k in REMOVED:
        if k < cloud.dim:
            found.append(_changed(cloud, name_without(k), diagonal, _only(slice(k, None))))
    if outliers and len(outliers) < cloud.dim:
        name = f"without outlier coordinate{'s' * (len(outliers) > 1)} {', '.join(map(str, outliers[:5]))}" + (
            f" and {len(outliers) - 5} more" if len(outliers) > 5 else ""
        )
        found.append(_changed(cloud, name, plain, _only(np.setdiff1d(np.arange(cloud.dim), outliers))))
    found.append(_changed(cloud, "each coordinate standardised", plain, _scaled(cloud.cov.diagonal(), -0.5)))
    # Not of the halves: whitening is fitted to the noise of both, and would make of it what the points have in common.
    found.append(_changed(cloud, "half whitened (power 0.5)", diagonal[:1], _scaled(cloud.eigenvalues, -0.25)))
    return tuple(found)


def name_without(k: int) -> str:
    """Return the name of the change that removes k directions."""
    return "without the largest direction" if k == 1 else f"without the {k} largest directions"


def _only(kept: slice | NDArray[np.int64]) -> Change:
    return lambda matrix: np.asarray(matrix[kept][:, kept])


def _scaled(variances: FloatArray, power: float) -> Change:
    has_variance = variances > _NOTHING / len(variances)
    scale = np.where(has_variance, variances, 1.0) ** power * has_variance
    return lambda matrix: np.asarray(matrix * scale[:, None] * scale)


def _changed(cloud: Cloud, name: str, covariances: tuple[FloatArray, ...], change: Change) -> WhatIf:
    own, *halves = map(change, covariances)
    # Of trace 1 before: what is left is the rounding of sums if it is no more than they may err by.
    if float(own.trace()) <= 8 * cloud.precision * math.sqrt(cloud.dim):
        return WhatIf(name, 0.0, None, 1.0)
    score, unbiased = cloud.score(float(own.trace()), float(np.vdot(own, own))), None
    if halves:
        first, second = halves
        inner, traces = float(np.vdot(first, second)), float(first.trace()) * float(second.trace())
        if inner > 0 and traces > 0:
            unbiased = defined(formulas.score_from_participation_ratio(traces / inner, cloud.dim))
    ratio = formulas.participation_ratio(score if unbiased is None else unbiased, cloud.dim)
    return WhatIf(name, score, unbiased, ratio)
