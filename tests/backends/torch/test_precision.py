"""What torch adds to `tests/core/test_precision.py`: float32 gradients, modules, streaming moments, transformations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch import IStarLoss, StreamingMoments  # noqa: E402
from isoscore_star.backends.torch import points as torch_points  # noqa: E402
from isoscore_star.core.score import shrunk_score, unbiased_score  # noqa: E402


def far_point(rows: int, dim: int) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(rows, dim))
    points[0] += 1e4
    return points.astype(np.float32)


def one_hot(rows: int, dim: int) -> np.ndarray:
    return np.eye(dim, dtype=np.float32)[np.random.default_rng(0).integers(0, dim, size=rows)]


CLOUDS = {"a far point": far_point(200_000, 2), "one-hot rows": one_hot(100_000, 3)}


def gradient_of(points: np.ndarray) -> np.ndarray:
    """∂IsoScore/∂X in closed form, in float64."""
    m, d = points.shape
    centred = points.astype(np.float64) - points.astype(np.float64).mean(axis=0)
    cov = centred.T @ centred / (m - 1)
    r = np.trace(cov) / np.sum(cov**2)
    return 4 / ((m - 1) * (d - 1)) * (r * centred - r**2 * centred @ cov)


@pytest.mark.parametrize("name", CLOUDS)
def test_gradients_of_float32_points(name: str) -> None:
    X = torch.tensor(CLOUDS[name], requires_grad=True)
    (gradient,) = torch.autograd.grad(iso.isoscore(X), X)
    expected = gradient_of(CLOUDS[name])
    assert gradient.dtype == torch.float32
    assert np.abs(gradient.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_loss_of_padded_layers(name: str, autocast: bool) -> None:
    points = CLOUDS[name]
    padded = [torch.tensor(part) for part in np.array_split(points, 3)]
    padded = [torch.cat([part, torch.full((5, part.shape[1]), 1e6)]) for part in padded]
    masks = [torch.arange(len(part)) < len(part) - 5 for part in padded]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = IStarLoss(points.shape[1], zeta=0.0)(padded, masks)
    assert loss.dtype == torch.float32
    assert 1 - loss.item() == pytest.approx(reference.isoscore_star(points), abs=1e-5)


def test_float32_sums_of_many_rows_of_many_dimensions() -> None:
    # Sums of all rows in float32 would lose 2·rows/(2²⁴·d) = 4e-5 of a score that is itself 6e-6; 2e-6 is allowed.
    points = far_point(40_000, 128)
    expected = reference.isoscore_star(points)
    assert float(iso.isoscore(torch.tensor(points))) == pytest.approx(expected, abs=2e-6)
    streamed = StreamingMoments(128).update(torch.tensor(points)).invariants()
    assert float(shrunk_score(streamed, 0.0, 128, torch.where)) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("dim", [130, 400])
def test_products_of_more_rows_than_float32_sums_take(monkeypatch: pytest.MonkeyPatch, dim: int) -> None:
    monkeypatch.setattr(torch_points, "_ROWS_PER_DIM", 1)  # d rows each; by panels for d = 400, else without
    rows = np.random.default_rng(1).normal(size=(3 * dim + 7, dim))
    parts = torch.tensor(rows, dtype=torch.float32).split(2 * dim)
    product = torch_points.symmetric_products(parts)
    assert product.dtype == torch.float64
    # A float32 sum of d squares errs by √d·ε relative to their sum, here of about d.
    assert np.abs(product.numpy() - rows.T @ rows).max() <= 4 * np.sqrt(dim) * dim * 2.0**-24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_a_far_point(dtype: Any) -> None:
    points = torch.tensor(far_point(50_000, 2)).to(dtype)
    assert float(iso.isoscore(points)) == pytest.approx(reference.isoscore_star(points.double().numpy()), abs=1e-3)


def scores(moments: StreamingMoments, dim: int) -> tuple[float, float]:
    found = moments.invariants()
    unbiased = unbiased_score(found, dim, torch.where, floored=True)
    return float(shrunk_score(found, 0.0, dim, torch.where)), float(unbiased)


@pytest.mark.parametrize("far", [1e6, 1e8])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_streaming_moments_far_from_zero(far: float, size: int) -> None:
    rows = {1: 300, 7: 900, 5000: 9000}[size]
    points = np.random.default_rng(2).normal(size=(rows, 3)) * [1, 2, 0.5] + far
    streamed, merged = StreamingMoments(3, fourth_order=True), StreamingMoments(3, fourth_order=True)
    for part in torch.tensor(points).split(size):
        streamed.update(part)
        merged.merge(StreamingMoments.from_packed(streamed.packed() * 0, 3, fourth_order=True).update(part))
    near = points - points[0]  # exact
    for moments in (streamed, merged):
        score, unbiased = scores(moments, 3)
        assert score == pytest.approx(reference.isoscore_star(near), abs=1e-12)
        assert unbiased == pytest.approx(iso.isoscore_unbiased(near), abs=1e-11)
        assert np.abs(moments.mean.numpy() - (points[0] + near.mean(0))).max() <= 2.0**-52 * far  # rounded once


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e100, 1e200])
@pytest.mark.parametrize("size", [1, 40])
def test_streaming_moments_of_any_scale(scale: float, size: int) -> None:
    points = np.random.default_rng(3).normal(size=(100, 3)) * [1, 2, 0.5]
    moments = StreamingMoments(3, fourth_order=True)
    for part in torch.tensor(points * scale).split(size):
        moments.update(part)
    score, unbiased = scores(moments, 3)
    assert score == pytest.approx(reference.isoscore_star(points), abs=1e-12)
    assert unbiased == pytest.approx(iso.isoscore_unbiased(points), abs=1e-11)
    assert float(moments.invariants().unit / scale) == pytest.approx(np.sqrt(np.trace(np.cov(points.T)) / 3), rel=1e-12)


def test_streaming_moments_of_batches_of_different_scales() -> None:
    points = np.random.default_rng(4).normal(size=(60, 3)) * np.repeat([1e-90, 1e30, 1.0], 20)[:, None]
    expected = StreamingMoments(3, fourth_order=True).update(torch.tensor(points))
    moments = StreamingMoments(3, fourth_order=True)
    for part in torch.tensor(points).split(20):
        moments.update(part)
    assert scores(moments, 3) == pytest.approx(scores(expected, 3), abs=1e-12)
    assert scores(expected, 3)[0] == pytest.approx(reference.isoscore_star(points), abs=1e-12)


def test_points_that_differ_by_rounding_alone() -> None:
    steps = np.random.default_rng(5).integers(0, 3, size=(900, 4))
    moments = StreamingMoments(4)
    for part in torch.tensor(0.1 + steps * 2.0**-56).split(7):
        moments.update(part)
    exact = (0.1 + steps * 2.0**-56 - 0.1) * 2.0**56
    assert scores_of(moments) == pytest.approx(reference.isoscore_star(exact), abs=1e-12)


@pytest.mark.parametrize("rows", [4, 30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_subnormal_points(rows: int, dtype: Any) -> None:
    steps = np.random.default_rng(10).integers(-9, 10, size=(rows, 5))
    points = torch.tensor(steps, dtype=torch.float64) * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert float(points.abs().max()) < torch.finfo(dtype).smallest_normal
    expected = reference.isoscore_star(steps)
    assert float(iso.isoscore(points.to(dtype))) == pytest.approx(expected, abs=1e-7)
    moments = StreamingMoments(5)
    for part in points.to(dtype).split(3):
        moments.update(part)
    assert scores_of(moments) == pytest.approx(expected, abs=1e-12)


def scores_of(moments: StreamingMoments) -> float:
    return float(shrunk_score(moments.invariants(), 0.0, moments.dim, torch.where))


@pytest.mark.parametrize("rows", [20, 2])
@pytest.mark.parametrize("scale", [1e80, 1e150, 1e300])
def test_large_points_beside_a_small_covariance(rows: int, scale: float) -> None:
    points = np.random.default_rng(6).normal(size=(rows, 3))
    X = torch.tensor(points * scale, requires_grad=True)
    loss = iso.istar_loss(X, torch.eye(3), 0.2)
    (gradient,) = torch.autograd.grad(loss, X)
    assert loss.item() == pytest.approx(1 - reference.isoscore_star(points), abs=1e-12)
    expected = -gradient_of(points)
    assert np.abs(gradient.numpy() * scale - expected).max() <= 1e-10 * np.abs(expected).max() + 1e-13


MEASURE = {
    "isoscore": iso.isoscore,
    "isoscore_star": lambda x: iso.isoscore_star(x, torch.eye(3), 0.2),
    "masked": lambda x: iso.isoscore_star(x, np.eye(3), 0.2, mask=torch.arange(20) > 2),
    "unbiased": iso.isoscore_unbiased,
}


@pytest.mark.parametrize("name", MEASURE)
def test_measuring_functions_inside_transformations(name: str) -> None:
    X = torch.tensor(np.random.default_rng(7).normal(size=(2, 20, 3)), requires_grad=True)
    expected = [torch.autograd.grad(MEASURE[name](points), points)[0] for points in X]
    batch = X.detach()
    assert torch.allclose(torch.func.grad(MEASURE[name])(batch[0]), expected[0], rtol=0, atol=1e-14)
    each = torch.func.vmap(torch.func.grad(MEASURE[name]))(batch)
    assert torch.allclose(each, torch.stack(expected), rtol=0, atol=1e-14)
    values = torch.stack([MEASURE[name](points) for points in batch])
    assert torch.allclose(torch.func.vmap(MEASURE[name])(batch), values, rtol=0, atol=1e-14)


def test_values_are_checked_inside_a_transformation() -> None:
    X = torch.tensor(np.random.default_rng(8).normal(size=(20, 3)))
    with pytest.raises(iso.InvalidValueError, match="mirror image"):
        torch.func.grad(lambda x: iso.isoscore_star(x, torch.ones(3, 3).triu(), 0.2))(X)
    with pytest.raises(iso.InvalidValueError, match="only zeros and ones"):
        torch.func.grad(lambda x: iso.isoscore(x, mask=torch.arange(20.0)))(X)


@pytest.mark.parametrize("share", [2.0, -0.1, float("nan")])
def test_a_share_given_as_a_tensor_is_looked_at_when_measuring(share: float) -> None:
    X = torch.tensor(np.random.default_rng(9).normal(size=(20, 3)))
    with pytest.raises(iso.InvalidValueError, match=r"zeta: expected a number in \[0, 1\]"):
        iso.isoscore_star(X, torch.eye(3), torch.tensor(share))
    assert iso.istar_loss(X, torch.eye(3), torch.tensor(share)).shape == ()  # training never looks
    with pytest.raises(iso.InvalidValueError, match="zeta"):
        iso.istar_loss(X, torch.eye(3), torch.tensor(share), check_values=True)
