"""What `istar_loss` does with batches that carry no information: never NaN, unless the batch itself is not finite."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import Adapter, random_cov

import isoscore_star as iso

DEGENERATE = {
    "one point": (np.ones((1, 6)), None),
    "one point of many dimensions unmasked": (
        np.random.default_rng(0).normal(size=(9, 6)),
        np.arange(9) == 3,
    ),
    "no point unmasked": (np.random.default_rng(0).normal(size=(9, 6)), np.zeros(9)),
    "NaN behind the mask": (np.full((9, 6), np.nan), np.zeros(9)),
    "zero variance": (np.full((12, 6), 0.1), None),
    "zero variance, fewer points than dimensions": (np.full((3, 6), 0.1), None),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_without_spread_the_sample_counts_as_zero(
    differentiable: Adapter, rng: np.random.Generator, case: str, zeta: float, dtype: str
) -> None:
    points, mask = DEGENERATE[case]
    cov = random_cov(rng, 6)

    def loss(x: object) -> object:
        return iso.istar_loss(x, cov, zeta, 1.0, mask=mask)

    X = differentiable.native(points, dtype)
    expected = 1 - (iso.isoscore_from_cov(cov) if zeta > 0 else 0.0)
    assert differentiable.value(loss, X) == pytest.approx(expected, abs=1e-12 if dtype == "float64" else 1e-6)
    assert np.array_equal(differentiable.gradient(loss, X), np.zeros_like(points))


@pytest.mark.parametrize("case", DEGENERATE)
def test_unbiased_without_spread(differentiable: Adapter, case: str) -> None:
    points, mask = DEGENERATE[case]

    def loss(x: object) -> object:
        return iso.istar_loss(x, mask=mask, estimator="unbiased")

    X = differentiable.native(points)
    assert differentiable.value(loss, X) == 1.0
    assert np.array_equal(differentiable.gradient(loss, X), np.zeros_like(points))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [5, 9])
@pytest.mark.parametrize("form", ["alone", "shrunk", "unbiased"])
def test_a_state_that_is_not_finite_shows(
    differentiable: Adapter, rng: np.random.Generator, form: str, rows: int, value: float
) -> None:
    # A finite penalty would hide that training has broken, and let an optimizer step that a gradient scaler skips.
    cov = random_cov(rng, 6)
    points = rng.normal(size=(rows, 6))
    points[2, 1] = value
    arguments = {"alone": {"zeta": 0.0}, "shrunk": {"shrinkage_cov": cov, "zeta": 0.3}, "unbiased": {}}[form]
    estimator = "unbiased" if form == "unbiased" else "shrinkage"

    def loss(x: object) -> object:
        return iso.istar_loss(x, estimator=estimator, **arguments)

    assert np.isnan(differentiable.value(loss, differentiable.native(points)))


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
def test_unbiased_with_few_points_stays_finite(differentiable: Adapter, rows: int) -> None:
    def loss(x: object) -> object:
        return iso.istar_loss(x, estimator="unbiased")

    # The rows of a regular simplex: the estimated denominator is zero, so only the floor keeps the value finite.
    X = differentiable.native(np.eye(6)[:rows])
    assert np.isfinite(differentiable.value(loss, X))
    assert np.isfinite(differentiable.gradient(loss, X)).all()


def test_zeta_1_has_the_value_of_the_target_and_no_gradient(differentiable: Adapter, rng: np.random.Generator) -> None:
    cov = random_cov(rng, 6)
    X = differentiable.native(rng.normal(size=(20, 6)))

    def loss(x: object) -> object:
        return iso.istar_loss(x, cov, 1.0, 3.0)

    assert differentiable.value(loss, X) == pytest.approx(3 * (1 - iso.isoscore_from_cov(cov)), abs=1e-12)
    assert np.array_equal(differentiable.gradient(loss, X), np.zeros((20, 6)))


def test_loss_is_lam_times_one_minus_score(differentiable: Adapter, rng: np.random.Generator) -> None:
    X = differentiable.native(rng.normal(size=(30, 5)))
    for lam in (-5, -1.0, 3):
        loss = differentiable.value(lambda x, w=lam: iso.istar_loss(x, None, 0.0, w), X)
        assert loss == pytest.approx(lam * (1 - float(iso.isoscore(X))), abs=1e-12)


def test_masked_values_reach_neither_value_nor_gradient(differentiable: Adapter, rng: np.random.Generator) -> None:
    for rows, dim in ((30, 5), (6, 9)):
        points, keep = rng.normal(size=(rows, dim)), np.arange(rows) % 3 != 1
        for estimator in ("shrinkage", "unbiased"):

            def loss(x: object, mask: object = keep, kind: str = estimator) -> object:
                return iso.istar_loss(x, None, 0.0, mask=mask, estimator=kind)

            bare = differentiable.native(points[keep])
            noisy = differentiable.native(np.where(keep[:, None], points, np.nan))
            bare_gradient = differentiable.gradient(lambda x, f=loss: f(x, None), bare)
            gradient = differentiable.gradient(loss, noisy)
            assert np.allclose(gradient[keep], bare_gradient, rtol=0, atol=1e-14)
            assert np.array_equal(gradient[~keep], np.zeros_like(gradient[~keep]))
