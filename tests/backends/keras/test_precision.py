"""Keras' metric and running covariance: far means, long epochs and any scale, against the very points in float64."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference

pytest.importorskip("keras")
import keras

from isoscore_star.backends.keras import IsoScoreStar, IStarRegularizer
from isoscore_star.backends.keras.moments import Compensated

BACKEND = iso.get_backend("keras")

# NumPy's complaint about how torch, inside Keras, copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def number(x: object) -> float:
    return float(BACKEND.to_numpy(x))


def float64_is_there() -> bool:
    if keras.backend.backend() != "jax":
        return True
    import jax

    return bool(jax.config.jax_enable_x64)


NEEDS_FLOAT64 = pytest.mark.skipif(not float64_is_there(), reason="JAX without float64")


def measured(points: np.ndarray, batches: int, **arguments: object) -> float:
    metric = IsoScoreStar(dtype=str(points.dtype), **arguments)
    for batch in np.array_split(points, batches):
        metric.update_state(None, batch)
    return number(metric.result())


@NEEDS_FLOAT64
@pytest.mark.parametrize("mean", [1e6, 1e8])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_a_far_mean_costs_no_digits(rng: np.random.Generator, mean: float, estimator: str) -> None:
    points = rng.normal(size=(300, 4)) * [1, 2, 3, 4] + mean * np.array([1, -1, 0.3, 1])
    near = points - points[0]  # exact, since they are close
    expected = reference.isoscore_star(near) if estimator == "shrinkage" else iso.isoscore_unbiased(near)
    # The fourth order divides by a difference that is some hundredth of its terms.
    assert measured(points, 9, estimator=estimator) == pytest.approx(
        expected, abs=1e-12 if estimator == "shrinkage" else 1e-10
    )


@NEEDS_FLOAT64
def test_identical_points_plus_rounding_score_as_the_very_points_do(rng: np.random.Generator) -> None:
    steps = rng.integers(0, 3, size=(300, 4))
    points = 0.1 + steps * 2.0**-56
    assert len(np.unique(points)) > 1
    assert measured(points, 7) == pytest.approx(reference.isoscore_star((points - 0.1) * 2.0**56), abs=1e-12)


def test_float32_in_batches() -> None:
    # Equal terms round the same way each time; and beside a far first point all others are small.
    one_hot = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, size=20_000)]
    far = np.random.default_rng(1).normal(size=(20_000, 3)).astype(np.float32)
    far[0] += 1e3
    for points in (one_hot, far):
        assert measured(points, 50) == pytest.approx(reference.isoscore_star(points.astype(float)), abs=1e-5)


def test_what_the_sums_of_thousands_of_batches_leave_out_is_kept() -> None:
    summed = Compensated(*(keras.ops.convert_to_tensor(x, "float32") for x in (1e8, 0.0)))
    for _ in range(100):
        summed += 1.0  # a float32 of that size has no ones
    assert number(summed.total) + number(summed.rest) == 1e8 + 100


def test_one_large_batch_is_summed_by_blocks() -> None:
    points = np.random.default_rng(0).normal(size=(100_001, 2)).astype(np.float32)
    points[50_000] += 1e4
    expected = reference.isoscore_star(points.astype(float))
    assert measured(points, 1) == pytest.approx(expected, abs=1e-5)


SCALES = [("float32", 1e-23), ("float32", 1e30)]
SCALES += [("float64", scale) for scale in (1e-200, 1e200) if float64_is_there()]


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_any_scale(rng: np.random.Generator, dtype: str, scale: float, estimator: str) -> None:
    points = rng.normal(size=(200, 4)) * [1, 2, 3, 4]
    points[:50] /= 1e3  # so that the unit has to grow
    expected = iso.isoscore(points) if estimator == "shrinkage" else iso.isoscore_unbiased(points)
    got = measured((points * scale).astype(dtype), 8, estimator=estimator)
    # Rounding the points moves the score by some ε; the unbiased one divides by a difference.
    assert got == pytest.approx(expected, abs=1e-5 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("cov_scale", [1e-24, 1e24])
def test_any_scale_of_the_shrinkage_covariance(rng: np.random.Generator, cov_scale: float) -> None:
    points, cov = rng.normal(size=(60, 4)).astype(np.float32), np.diag([1.0, 2, 3, 4]) * cov_scale
    alone = iso.isoscore_from_cov(cov)
    assert measured(points, 3, zeta=1.0, shrinkage_cov=cov) == pytest.approx(alone, abs=1e-6)
    mixed = reference.isoscore_star(points.astype(float)) if cov_scale < 1 else alone  # the other counts for nothing
    assert measured(points, 3, zeta=0.4, shrinkage_cov=cov) == pytest.approx(mixed, abs=1e-5)


def test_the_running_average_of_many_rows(rng: np.random.Generator) -> None:
    states = rng.normal(size=(5000, 2)).astype(np.float32)
    states[0] += 1e3
    layer = IStarRegularizer(running_average=0.5)
    layer(states, training=True)
    expected = np.cov(states.astype(float).T)
    assert np.abs(BACKEND.to_numpy(layer.shrinkage_cov) - expected).max() <= 1e-6 * expected.max()
