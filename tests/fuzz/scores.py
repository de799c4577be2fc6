"""Calls of the scores, the loss and the moments on a drawn cloud, each with the answer that is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from fuzz import gradients, truth
from fuzz.trial import PROMISE, Trial
from fuzz.truth import L
from fuzz.verdict import MUST_RAISE, Call, Expected

import isoscore_star as iso


def calls(trial: Trial, count: int) -> Iterator[Call]:
    """Draw some calls."""
    kinds = [_star, _star, _unbiased, _loss, _loss_unbiased, _moments, _measure]
    if trial.adapter.differentiable:
        kinds += [gradients.calls] * 3
    if trial.adapter.name == "numpy":
        kinds += [_moments, _measure, _reference]
    for kind in trial.rng.permutation(len(kinds))[:count]:
        yield from kinds[kind](trial)


def _star(trial: Trial) -> Iterator[Call]:
    target, given, zeta, share = trial.shrinkage()
    if given is None and trial.rng.random() < 0.5:
        yield "isoscore", trial.value(lambda x: iso.isoscore(x, mask=trial.mask)), trial.star(None, 0.0)
        return
    expected = trial.star(target, zeta)
    yield "isoscore_star", trial.value(lambda x: iso.isoscore_star(x, given, share, mask=trial.mask)), expected


def _unbiased(trial: Trial) -> Iterator[Call]:
    yield (
        "isoscore_unbiased",
        trial.value(lambda x: iso.isoscore_unbiased(x, mask=trial.mask, groups=None)),
        trial.unbiased(),
    )


def _loss(trial: Trial) -> Iterator[Call]:
    target, given, zeta, share = trial.shrinkage()
    lam, weight = trial.weight()
    checked = bool(trial.rng.random() < 0.15)
    if trial.flushed(target) and not checked:
        return
    if checked:
        expected = trial.penalty(lam, trial.star(target, zeta))
    else:
        expected = trial.loss(lam, trial.training_score(target, zeta), target)

    def function(X: Any) -> Any:
        return iso.istar_loss(X, given, share, weight, mask=trial.mask, check_values=checked)

    if not checked and trial.rng.random() < 0.02 and trial.adapter.name in ("tensorflow", "jax"):
        yield "istar_loss traced", lambda: float(trial.traced(function)(trial.X)), expected
    else:
        yield "istar_loss", trial.value(function), expected


def _loss_unbiased(trial: Trial) -> Iterator[Call]:
    lam, weight = trial.weight()
    if trial.flushed():
        return
    yield (
        "istar_loss unbiased",
        trial.value(lambda x: iso.istar_loss(x, None, 0.0, weight, mask=trial.mask, estimator="unbiased", groups=None)),
        trial.loss(lam, trial.training_unbiased()),
    )


def _moments(trial: Trial) -> Iterator[Call]:
    sample, rng, d = trial.sample, trial.rng, trial.sample.d
    flat = trial.X if trial.case.array.ndim == 2 else None
    ends = sorted({0, trial.rows, *(int(i) for i in rng.integers(0, trial.rows + 1, int(rng.integers(0, 4))))})
    pieces = list(pairwise(ends)) if flat is not None else []
    keep = None if trial.case.keep is None else trial.case.keep
    merging = rng.random() < 0.5

    def take() -> iso.Moments:
        if not pieces:
            return iso.Moments().update(trial.parts(trial.X), trial.mask)
        whole = iso.Moments()
        for a, b in pieces:
            part = iso.Moments() if merging else whole
            part.update(flat[a:b], None if keep is None else keep[a:b])
            if merging:
                whole = whole.merge(part) if rng.random() < 0.5 else part.merge(whole)
        return whole

    if not sample.finite:
        yield "Moments.update", take, MUST_RAISE._replace(error="must" if trial.inside else "may")
        return
    target, given, zeta, _ = trial.shrinkage(plain=True)
    which = rng.integers(4)
    if which == 0:
        yield "Moments.isoscore", lambda: take().isoscore(), trial.star(None, 0.0)
    elif which == 1:
        yield "Moments.isoscore_star", lambda: take().isoscore_star(given, zeta), trial.star(target, zeta)
    elif which == 2:
        yield "Moments.isoscore_unbiased", lambda: take().isoscore_unbiased(groups=None), trial.unbiased()
    elif sample.n < 2:
        yield "Moments.cov", lambda: take().cov, MUST_RAISE
    elif trial.inside:
        size = float(abs(sample.cov).max())
        yield "Moments.cov", lambda: take().cov, Expected(sample.cov, PROMISE[trial.precision] * size)
        mean = sample.points.astype(L).mean(axis=0)
        bound = PROMISE[trial.precision] * float(sample.spread) + 1e-15 * float(abs(mean).max())
        yield "Moments.mean", lambda: take().mean, Expected(mean, bound)
    else:
        wanted = np.array([sample.n, d], float)
        yield (
            "Moments.count",
            lambda: np.array([take().count, take().dim], float),
            Expected(wanted, error="may", different=True),
        )


def _measure(trial: Trial) -> Iterator[Call]:
    sample = trial.sample
    target, given, zeta, _ = trial.shrinkage(plain=True)
    expected = trial.star(target, zeta)
    groups = trial.groups()
    found: list[iso.Measurement] = []

    def measure() -> float:
        found.append(iso.measure(trial.parts(trial.X), given, zeta, mask=trial.mask, groups=groups))
        return found[-1].score

    yield "measure", measure, expected
    if not found or expected.value is None:
        return
    measurement = found[-1]
    unbiased = trial.unbiased()
    score = measurement.unbiased_score if groups is None else measurement.independent_score
    if score is not None:
        yield (
            "measure.unbiased_score",
            lambda: score,
            unbiased._replace(inside=expected.inside),
        )
    elif unbiased.error == "no":
        yield "measure.unbiased_score", lambda: np.float64(np.nan), unbiased
    rest = Expected(np.array([sample.n, sample.d], float))
    yield "measure.count", lambda: np.array([measurement.count, measurement.dim], float), rest
    yield "Measurement", lambda: _readable(measurement, whole=trial.inside), Expected(np.float64(1))
    if groups is None and measurement.standard_error is not None and 5 <= sample.n <= 12 and trial.inside:
        error = truth.jackknife(sample.points)
        if error is not None and unbiased.bound < 1e-9:
            expected = Expected(L(error), 1e-6 * (1 + error))
            yield "measure.standard_error", lambda: np.float64(measurement.standard_error), expected


def _reference(trial: Trial) -> Iterator[Call]:
    if trial.case.cuts or trial.case.array.ndim != 2 or trial.case.keep is not None:
        return
    target, given, zeta, _ = trial.shrinkage(plain=True)
    expected = trial.star(target, zeta)
    if expected.value is not None:
        expected = expected._replace(bound=1e-12)
    yield "reference", lambda: iso.reference.isoscore_star(trial.X, given, zeta), expected


def _readable(measurement: iso.Measurement, *, whole: bool) -> np.float64:
    """Look at all that a Measurement shows: 1 if its JSON has no NaN and, as a whole, every number is finite."""
    shown = str(measurement) + repr(measurement) + json.dumps(measurement.to_dict(), allow_nan=False)
    good = bool(shown) and all(measurement.warnings)
    if whole:
        good = good and bool(np.isfinite(measurement.cov).all() and np.isfinite(measurement.effective_dimensions))
        good = good and bool(np.isfinite(measurement.spectrum).all() and (measurement.spectrum >= 0).all())
    if measurement.standard_error is not None:
        good = good and 0 <= measurement.standard_error < np.inf
    return np.float64(good)
