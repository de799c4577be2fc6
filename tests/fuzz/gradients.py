"""Gradients of the scores and the loss on a drawn cloud, against the closed forms."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from fuzz import cases, truth
from fuzz.trial import Trial
from fuzz.truth import L
from fuzz.verdict import Call, Expected

import isoscore_star as iso

# Of the largest entry, and of the largest of the terms whose difference an entry is.
BOUNDS = {"float64": (1e-10, 1e-12), "float32": (1e-4, 1e-5), "half": (1e-2, 1e-2)}


def calls(trial: Trial) -> Iterator[Call]:
    """Draw one gradient, if there is one to speak of: of finite points in the declared range, in units that it fits."""
    sample, rng = trial.sample, trial.rng
    if not sample.finite or not trial.inside or trial.case.dtype in cases.INTEGERS:
        return
    target, given, zeta, share = trial.shrinkage()
    if not trial.near(target, zeta):
        return
    measuring = rng.random() < 0.3
    if measuring and (trial.measured(4) is not None or sample.margin < 0.01):
        return
    unbiased = rng.random() < 0.4
    if unbiased:
        call = iso.isoscore_unbiased if measuring else lambda x, **k: -iso.istar_loss(x, estimator="unbiased", **k)
        call = functools.partial(call, groups=None)
        degenerate = trial.degenerate or sample.n < 4
        if not degenerate and sample.unbiased(truth.ROUNDING[trial.precision], floored=True)[1] > 1e-2:
            return
        found = None if degenerate else sample.unbiased_gradient(floored=not measuring)
    else:
        call = iso.isoscore_star if measuring else lambda *a, **k: -iso.istar_loss(*a, **k)
        found = None if trial.degenerate else sample.score_gradient(target, zeta)
    right = np.zeros((trial.rows, sample.d), L)
    by_largest, by_terms = BOUNDS[trial.precision]
    bound = 0.0
    if found is not None:
        right[trial.kept] = found[0]
        bound = by_largest * float(abs(found[0]).max()) + by_terms * float(found[1])
        if unbiased:  # which divides by a difference: its relative error is that of D and of N/D, as in the score
            _, kappa = sample.denominator(truth.ROUNDING[trial.precision], floored=not measuring)
            bound += 2 * float(kappa * found[1])
    smallest, largest = (6e-8, 6e4) if trial.case.dtype == "float16" else (1e-37, 1e37)
    if trial.precision == "float64":
        smallest, largest = 1e-300, 1e300
    if bound and float(found[1]) > largest:
        return
    arguments = () if unbiased else (given, share)

    def function(X: Any) -> Any:
        return call(trial.parts(X), *arguments, mask=trial.mask)

    yield (
        "gradient" + " unbiased" * unbiased,
        lambda: trial.gradient(function).reshape(-1, sample.d),
        Expected(right, bound + smallest),
    )
