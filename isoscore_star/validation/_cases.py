"""The clouds of validation, each with the score to compute and the expected result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import isoscore_star as iso
from isoscore_star.validation._truth import FloatArray, Truth, anchored, halves, shrunk, unbiased

DIM = 48


@dataclass(frozen=True, eq=False)
class Case:
    """A cloud, the score to compute in any framework, and the true result for its points after rounding."""

    name: str
    points: FloatArray
    score: Callable[[Any], Any]
    truth: Callable[[FloatArray], Truth]


def all_cases() -> list[Case]:
    """Return all cases, the same at every call."""
    rng = np.random.default_rng(0)
    # Correlated axes of unequal variance.
    mixing = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0] * np.geomspace(3, 0.3, DIM)
    few, square, many = (rng.normal(size=(m, DIM)) @ mixing for m in (16, DIM, 160))
    cov = np.cov((rng.normal(size=(500, DIM)) @ mixing[::-1]).T)
    far_mean = 100 * many.std() * rng.choice([-1, 1], size=DIM)
    return [
        _case("fewer points than dimensions", few),
        _case("as many points as dimensions", square),
        _case("more points than dimensions", many),
        _case("few points, zeta = 0.3", few, cov, 0.3),
        _case("many points, zeta = 0.3", many, cov, 0.3),
        _case("few points, zeta = 1", few, cov, 1.0),
        _case("many points, zeta = 1", many, cov, 1.0),
        _masked_case("many points, mask", many.reshape(4, 40, DIM), rng),
        _masked_case("few points, mask", square.reshape(4, 12, DIM), rng),
        _case("union of two clouds", many + (np.arange(160) < 60)[:, None], cov, 0.3, split=60),
        _case("mean of 100 standard deviations", many + far_mean),
        _case("few points, mean of 100 standard deviations", few + far_mean),
        _case("scale 1e10", many * 1e10, cov * 1e20, 0.3),
        _case("scale 1e-10", many * 1e-10, cov * 1e-20, 0.3),
        Case("unbiased, 8 points in 5 dimensions", few[:8, :5], iso.isoscore_unbiased, unbiased),
        Case("unbiased, 8 points in 12 dimensions", few[8:, :12], iso.isoscore_unbiased, unbiased),
        Case("two halves of 4 sequences of 40 tokens", _sequences(many, 4), iso.isoscore_unbiased, halves),
        Case("two halves of 8 sequences of 6 tokens", _sequences(square, 8), iso.isoscore_unbiased, halves),
        Case("anchored, many points", many, _anchored(cov), partial(anchored, cov=cov)),
        Case("anchored, few points", few, _anchored(cov), partial(anchored, cov=cov)),
    ]


def _sequences(points: FloatArray, count: int) -> FloatArray:
    return points.reshape(count, -1, DIM)


def _anchored(cov: FloatArray) -> Callable[[Any], Any]:
    return lambda X: 1 - iso.istar_loss(X, cov, estimator="anchored")


def _case(
    name: str,
    points: FloatArray,
    cov: FloatArray | None = None,
    zeta: float = 0.0,
    *,
    split: int | None = None,
) -> Case:
    def score(X: Any) -> Any:
        clouds = X if split is None else [X[:split], X[split:]]
        return iso.isoscore_star(clouds, cov, zeta)

    return Case(name, points, score, partial(shrunk, cov=cov, zeta=zeta))


def _masked_case(name: str, points: FloatArray, rng: np.random.Generator) -> Case:
    mask = np.arange(points.shape[1]) < rng.integers(5, points.shape[1], size=(len(points), 1))
    # NaN as padding must change neither value nor gradient.
    padded = np.where(mask[..., None], points, np.nan)
    return Case(name, padded, partial(iso.isoscore, mask=mask), partial(_masked_truth, mask=mask))


def _masked_truth(points: FloatArray, mask: NDArray[np.bool_]) -> Truth:
    value, gradient = shrunk(points[mask], None, 0.0)
    whole = np.zeros_like(points)
    whole[mask] = gradient
    return Truth(value, whole)
