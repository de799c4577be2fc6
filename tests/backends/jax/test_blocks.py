"""Long sums in JAX: blocks of rows hold every point once, keep float32's promise and change no derivative."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation._truth import shrunk

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from isoscore_star.backends.jax import _in_blocks  # noqa: E402


@pytest.mark.parametrize("most", [2, 3, 16, 48])
@pytest.mark.parametrize("rows", [1, 16, 17, 31, 64, 100, 999, 1004, 4004, 2**14])
def test_blocks_hold_every_row_once_and_zeros(rows: int, most: int) -> None:
    points = np.arange(1.0, 2 * rows + 1).reshape(rows, 2)
    blocks = np.asarray(_in_blocks(jnp.asarray(points), most))
    assert blocks.shape[1] <= max(most, 1)
    assert len(blocks) <= 4 * -(-rows // most)  # memory: a product of each is kept for a while
    flat = blocks.reshape(-1, 2)
    assert np.array_equal(flat[:rows], points)
    assert not flat[rows:].any()


@pytest.mark.parametrize(("rows", "devices"), [(4096, 8), (1000, 8), (100_000, 32), (4 * 1001, 4), (1 << 14, 2)])
def test_blocks_are_whole_on_each_device(rows: int, devices: int) -> None:
    assert len(_in_blocks(jnp.zeros((rows, 1)), 32)) % devices == 0


def far_point(rows: int, dim: int, far: float) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    points[rows // 2] += np.float32(far)
    return points


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_float32_beside_a_far_point(x64: bool, compiled: bool) -> None:
    points = far_point(200_001, 2, 1e4)
    expected = reference.isoscore_star(points)
    with jax.enable_x64(x64):
        score = (jax.jit(iso.isoscore) if compiled else iso.isoscore)(jnp.asarray(points))
        assert score.dtype == jnp.float32
    assert float(score) == pytest.approx(expected, abs=1e-5)


def test_float32_gradient_beside_a_far_point() -> None:
    points = far_point(50_000, 3, 1e3)
    expected = shrunk(points.astype(np.float64), None, 0.0).gradient
    got = np.asarray(jax.jit(jax.grad(iso.isoscore))(jnp.asarray(points)), np.float64)
    # Of two terms r·x and r²·S·x, each with a few roundings, a share of about the score (here .03) is left.
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_float32_across_devices_and_masked(estimator: str) -> None:
    # The unbiased estimate divides by a difference, of which one point that is all of the variance leaves nothing.
    points = far_point(60_000, 2, 1e4 if estimator == "shrinkage" else 30).reshape(3, -1, 2)
    keep = np.random.default_rng(1).random(points.shape[:2]) < 0.7
    keep[1, 10_000] = True
    X = jnp.where(jnp.asarray(keep)[..., None], jnp.asarray(points), jnp.nan)

    def score(x: Any, mask: Any) -> Any:
        return 1 - iso.istar_loss(x, zeta=0.0, mask=mask, across="i", estimator=estimator)

    kept = points[keep].astype(np.float64)
    expected = reference.isoscore_star(kept) if estimator == "shrinkage" else iso.isoscore_unbiased(kept)
    assert np.allclose(jax.vmap(score, axis_name="i")(X, jnp.asarray(keep)), expected, rtol=0, atol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_two_orders_of_derivatives_through_blocks(rng: np.random.Generator, estimator: str) -> None:
    points, direction = rng.normal(size=(70, 2)) * [1, 2] + 5, rng.normal(size=(70, 2))  # blocks of at most 32 rows
    cov = np.array([[1, 0.3], [0.3, 2]]) if estimator == "shrinkage" else None
    keep = np.arange(70) % 7 != 1

    def loss(x: Any) -> Any:
        return iso.istar_loss(x, cov, 0.3, estimator=estimator, mask=keep)

    def slope(x: Any) -> Any:
        return jax.jvp(loss, (x,), (jnp.asarray(direction),))[1]

    X, way, step = jnp.asarray(points), jnp.asarray(direction), 1e-3
    at = {k: float(loss(points + k * step * direction)) for k in (-2, -1, 0, 1, 2)}  # NumPy's, which has no gradient
    # Differences that err by step⁴ and by ε over the step, or its square.
    expected = (8 * (at[1] - at[-1]) - at[2] + at[-2]) / (12 * step)
    assert float(slope(X)) == pytest.approx(expected, abs=1e-9)
    assert float((jax.grad(loss)(X) * way).sum()) == pytest.approx(expected, abs=1e-9)
    curvature = (16 * (at[1] + at[-1]) - at[2] - at[-2] - 30 * at[0]) / (12 * step**2)
    assert float((jax.grad(slope)(X) * way).sum()) == pytest.approx(curvature, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-37, 1e-23, 1e30])
def test_training_at_the_ends_of_the_range_is_no_nan(rng: np.random.Generator, scale: float) -> None:
    X = jnp.asarray(rng.normal(size=(40, 3)) * scale, jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: iso.istar_loss(x, zeta=0.0)))(X)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
