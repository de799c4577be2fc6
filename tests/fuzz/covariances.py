"""Calls of the scores of a covariance and of a spectrum, and the two conversions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from adapters import Adapter
from fuzz import cases, clouds, truth
from fuzz.trial import PROMISE
from fuzz.truth import L
from fuzz.verdict import MUST_RAISE, Call, Expected

import isoscore_star as iso


def calls(adapter: Adapter, rng: np.random.Generator, dtypes: tuple[str, ...], *, few: bool) -> Iterator[Call]:
    """Draw calls on a covariance and a spectrum of up to 32 dimensions, or of a few numbers of dimensions alone."""
    d = int(rng.choice([2, 3, 8])) if few else int(rng.integers(2, 33))
    dtype = str(rng.choice([dtype for dtype in dtypes if dtype not in cases.INTEGERS]))
    precision = dtype if dtype in PROMISE else "half"
    with np.errstate(all="ignore"):
        points = clouds.FAMILIES[rng.integers(len(clouds.FAMILIES))](rng, 2 * d, d)
        cov = points.T @ points
        values = rng.gamma(0.3, size=d) * (rng.random(d) < 0.8)
        scale = cases.scale_of(rng, dtype) if rng.random() < 0.5 else 1.0
        pairs = ("isoscore_from_cov", cov), ("isoscore_from_spectrum", values)
        for name, array in pairs:
            array = array / (array.max() or 1.0) * scale
            if dtype != "bfloat16":
                array = array.astype(dtype)
            seen = truth.rounded(array, dtype)
            yield name, _called(adapter, name, array, dtype), _expected(name, seen, precision)
    score, pr = rng.random(), 1 + (d - 1) * rng.random()
    yield "participation_ratio", lambda: iso.participation_ratio(score, d), Expected(1 + (d - 1) * L(score), 1e-13)
    expected = Expected((L(pr) - 1) / (d - 1), 1e-15)
    yield "score_from_participation_ratio", lambda: iso.score_from_participation_ratio(pr, d), expected


def _called(adapter: Adapter, name: str, array: np.ndarray, dtype: str) -> object:
    function = getattr(iso, name)
    native = adapter.native(array, dtype if dtype == "bfloat16" else None)
    return lambda: adapter.value(function, native)


def _expected(name: str, seen: np.ndarray, precision: str) -> Expected:
    variances = seen.diagonal() if seen.ndim == 2 else seen
    if not np.isfinite(seen).all() or not variances.any():
        return MUST_RAISE
    low, high = {"float64": (1e-300, 1e300)}.get(precision, (1e-30, 1e30))
    inside = bool(low < variances.max() < high)
    with np.errstate(all="ignore"):
        right = truth.score_of_cov(seen) if seen.ndim == 2 else truth.score_of_spectrum(seen)
        if seen.ndim == 2:
            # Entries at the low end of half precision, rounded one by one, need be no covariance any more.
            ratio = float((seen.astype(L) ** 2).sum() / seen.astype(L).trace() ** 2)
            inside = inside and ratio <= 1
    return Expected(right, PROMISE[precision], error="no" if inside else "may", inside=inside)
