"""Long sums in TensorFlow: blocks of rows keep float32's promise however late their number is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation import ADAPTERS
from isoscore_star.validation._truth import shrunk

tf = pytest.importorskip("tensorflow")

ADAPTER = ADAPTERS["tensorflow"]
MODES: dict[str, Callable[[Callable[..., Any], Any], Callable[..., Any]]] = {
    "eager": lambda f, dtype: f,
    "dynamic": lambda f, dtype: tf.function(f, input_signature=[tf.TensorSpec([None, 2], dtype)]),
    "dynamic, XLA": lambda f, dtype: tf.function(
        f, input_signature=[tf.TensorSpec([None, 2], dtype)], jit_compile=True
    ),
}


def far_point(rows: int, far: float) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    points[rows // 2] += np.float32(far)
    return points


@pytest.mark.sampled
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_float32_beside_a_far_point(mode: str, estimator: str) -> None:
    run = MODES[mode](lambda x: 1 - iso.istar_loss(x, zeta=0.0, estimator=estimator), tf.float32)
    # The unbiased estimate divides by a difference, of which one point that is all of the variance leaves nothing.
    for rows in (50, 200_001):
        points = far_point(rows, 1e4 if estimator == "shrinkage" else 3)
        exact = points.astype(np.float64)
        expected = reference.isoscore_star(exact) if estimator == "shrinkage" else iso.isoscore_unbiased(exact)
        score = run(tf.constant(points))
        assert score.dtype == tf.float32
        assert float(score) == pytest.approx(expected, abs=1e-5)


def test_float32_gradient_beside_a_far_point() -> None:
    points = far_point(50_000, 1e3)
    expected = shrunk(points.astype(np.float64), None, 0.0).gradient
    got = ADAPTER.value_and_gradient(iso.isoscore, tf.constant(points))[1].numpy()
    # Of two terms r·x and r²·S·x, each with a few roundings, a share of about the score (here .03) is left.
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.sampled
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_two_orders_of_derivatives_through_blocks(rng: np.random.Generator, mode: str, estimator: str) -> None:
    points, direction = rng.normal(size=(70, 2)) * [1, 2] + 5, rng.normal(size=(70, 2))  # blocks of at most 32 rows
    cov = np.array([[1, 0.3], [0.3, 2]]) if estimator == "shrinkage" else None
    keep = np.arange(70) % 7 != 1

    def loss(x: Any) -> Any:
        return iso.istar_loss(x, cov, 0.3, estimator=estimator, mask=keep)

    def slopes(x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            slope = tf.reduce_sum(ADAPTER.value_and_gradient(loss, x)[1] * direction)
        return slope, tf.reduce_sum(tape.gradient(slope, x) * direction)

    first, second = MODES[mode](slopes, tf.float64)(tf.constant(points))
    step = 1e-3
    at = {k: float(loss(points + k * step * direction)) for k in (-2, -1, 0, 1, 2)}  # NumPy's, which has no gradient
    # Differences that err by step⁴ and by ε over the step, or its square.
    assert float(first) == pytest.approx((8 * (at[1] - at[-1]) - at[2] + at[-2]) / (12 * step), abs=1e-9)
    curvature = (16 * (at[1] + at[-1]) - at[2] - at[-2] - 30 * at[0]) / (12 * step**2)
    assert float(second) == pytest.approx(curvature, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-37, 1e-23, 1e30])
def test_training_at_the_ends_of_the_range_is_no_nan(rng: np.random.Generator, scale: float) -> None:
    X = tf.constant(rng.normal(size=(40, 3)) * scale, tf.float32)
    value, gradient = ADAPTER.value_and_gradient(lambda x: iso.istar_loss(x, zeta=0.0), X)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
