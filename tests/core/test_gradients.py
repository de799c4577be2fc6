"""Gradients against the closed form, against differences of Algorithm 1, and by each framework's own checker."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from adapters import Adapter, random_cov

import isoscore_star as iso
from isoscore_star import reference


def closed_form(points: np.ndarray, cov: np.ndarray, zeta: float) -> np.ndarray:
    """∂IsoScore*/∂X = 4(1−ζ)/((m−1)(d−1))·(r·Xc − r²·Xc·Σ), r = T/F, in float64."""
    m, d = points.shape
    centred = points - points.mean(axis=0)
    sigma = (1 - zeta) * centred.T @ centred / (m - 1) + zeta * cov
    r = np.trace(sigma) / np.sum(sigma**2)
    return 4 * (1 - zeta) / ((m - 1) * (d - 1)) * (r * centred - r**2 * centred @ sigma)


SHAPES = [(20, 64), (64, 64), (700, 64), (50, 700), (900, 600), (60, 1024), (1100, 1024)]


@pytest.mark.sampled("zeta")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_closed_form(differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int], zeta: float) -> None:
    points = rng.normal(size=shape) * np.linspace(0.1, 3, shape[1]) + rng.normal(size=shape[1])
    cov = random_cov(rng, shape[1])
    expected = closed_form(points, cov, zeta)
    got = differentiable.gradient(lambda x: iso.isoscore_star(x, cov, zeta), differentiable.native(points))
    assert np.abs(got - expected).max() <= 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(20, 64), (700, 64)])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_float32(differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int], mean: float) -> None:
    points = rng.normal(size=shape) * np.linspace(0.5, 2, 64) + mean
    rounded = differentiable.rounded(points, "float32")
    expected = closed_form(rounded, np.eye(64), 0.3)
    X = differentiable.native(points, "float32")
    got = differentiable.gradient(lambda x: iso.isoscore_star(x, np.eye(64), 0.3), X)
    # Centring is exact to ε of the differences, so 100 standard deviations cost nothing: ε·√d for the product.
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("scale", [1e150, 1e-150])
@pytest.mark.parametrize("shape", [(20, 32), (200, 32)])
def test_any_scale(differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int], scale: float) -> None:
    points = rng.normal(size=shape) * np.linspace(0.1, 3, 32)
    cov = random_cov(rng, 32)
    expected = closed_form(points, cov, 0.3)
    X = differentiable.native(points * scale)
    got = differentiable.gradient(lambda x: iso.isoscore_star(x, cov * scale**2, 0.3), X)
    assert np.abs(got * scale - expected).max() <= 1e-10 * np.abs(expected).max()


def test_differences_of_algorithm_1(differentiable: Adapter, rng: np.random.Generator) -> None:
    points, cov, step = rng.normal(size=(12, 5)) * [3, 1, 1, 0.5, 0.1], random_cov(rng, 5), 1e-6
    got = differentiable.gradient(lambda x: iso.isoscore_star(x, cov, 0.2), differentiable.native(points))
    for i, j in product(range(0, 12, 5), range(5)):
        up, down = points.copy(), points.copy()
        up[i, j] += step
        down[i, j] -= step
        slope = (reference.isoscore_star(up, cov, 0.2) - reference.isoscore_star(down, cov, 0.2)) / (2 * step)
        assert got[i, j] == pytest.approx(slope, abs=1e-8)  # ε/step + step²


DIM = 8
KINDS = ["shrinkage 0", "shrinkage 0.3", "shrinkage 1", "unbiased"]


def cases() -> list[object]:
    # The Gram form, the scatter form, and where they meet; always so many points that no score is 0 by definition.
    rows = {"m<d": 6, "m=d": DIM, "m>d": 13}
    shapes = {name: [m] for name, m in rows.items()} | {f"union {name}": [1, m - 4, 3] for name, m in rows.items()}
    grid = product(shapes, KINDS, [False, True])
    return [pytest.param(shapes[s], kind, k, id=f"{s}-{kind}-{'mask' if k else 'all'}") for s, kind, k in grid]


@pytest.mark.sampled("kind")
@pytest.mark.parametrize(("lengths", "kind", "masked"), cases())
def test_torch_gradcheck_and_gradgradcheck(
    rng: np.random.Generator, lengths: list[int], kind: str, masked: bool
) -> None:
    torch = pytest.importorskip("torch")
    layers = [torch.tensor(rng.normal(size=(m, DIM)), requires_grad=True) for m in lengths]
    # One row of all is left out, and of a union the first cloud has no mask.
    masks: list[object] = [None, *(torch.ones(m) for m in lengths[1:-1]), torch.arange(lengths[-1]) != 1]
    estimator, _, zeta = kind.partition(" ")
    cov = torch.tensor(random_cov(rng, DIM)) if estimator == "shrinkage" else None

    def loss(*xs: object) -> object:
        mask = masks[-len(xs) :] if masked else None
        return iso.istar_loss(list(xs), cov, float(zeta or 0), 1.5, mask=mask, estimator=estimator)

    # What is zero throughout could not be wrong.
    gradients = torch.autograd.grad(loss(*layers), layers)
    assert (max(float(g.abs().max()) for g in gradients) > 1e-3) == (zeta != "1")
    assert torch.autograd.gradcheck(loss, layers)
    assert torch.autograd.gradgradcheck(loss, layers)


@pytest.mark.parametrize("rows", [4, 12])
def test_torch_gradient_for_the_shrinkage_covariance(rng: np.random.Generator, rows: int) -> None:
    torch = pytest.importorskip("torch")
    X = torch.tensor(rng.normal(size=(rows, 5)), requires_grad=True)
    factor = torch.tensor(rng.normal(size=(7, 5)), requires_grad=True)

    def loss(x: object, f: object) -> object:
        return iso.istar_loss(x, f.T @ f, 0.3)

    assert torch.autograd.gradcheck(loss, (X, factor))
    assert torch.autograd.gradgradcheck(loss, (X, factor))


@pytest.mark.parametrize("shape", [(4, 6), (9, 6)])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_autograd_check_grads(rng: np.random.Generator, shape: tuple[int, int], estimator: str) -> None:
    checker = pytest.importorskip("autograd.test_util")
    points, keep = rng.normal(size=(shape[0] + 1, shape[1])), np.arange(shape[0] + 1) != 2

    def loss(x: object) -> object:
        cov = np.eye(6) if estimator == "shrinkage" else None
        return iso.istar_loss(x, cov, 0.3, mask=keep, estimator=estimator)

    checker.check_grads(loss, modes=["rev"], order=2)(points)


@pytest.mark.parametrize("rows", [4, 12])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_torch_func(rng: np.random.Generator, rows: int, estimator: str) -> None:
    torch = pytest.importorskip("torch")
    X = torch.tensor(rng.normal(size=(3, rows, 5)))
    masks = torch.ones(3, rows)
    if rows > 4:
        masks[:, ::5] = 0

    def loss(x: object, mask: object = None) -> object:
        return iso.istar_loss(x, None, 0.0, mask=mask, estimator=estimator)

    leaf = X[0].clone().requires_grad_()
    loss(leaf).backward()
    assert torch.allclose(torch.func.grad(loss)(X[0]), leaf.grad, rtol=0, atol=1e-14)
    assert torch.allclose(torch.func.jacrev(loss)(X[0]), leaf.grad, rtol=0, atol=1e-14)
    hessian = torch.func.jacrev(torch.func.jacrev(loss))(X[0])
    assert torch.allclose(hessian, torch.autograd.functional.hessian(loss, X[0]), rtol=0, atol=1e-13)
    each = torch.stack([loss(x, m) for x, m in zip(X, masks, strict=True)])
    assert torch.allclose(torch.func.vmap(loss)(X, masks), each, rtol=0, atol=1e-13)
    gradients = torch.stack([torch.func.grad(loss)(x, m) for x, m in zip(X, masks, strict=True)])
    assert torch.allclose(torch.func.vmap(torch.func.grad(loss))(X, masks), gradients, rtol=0, atol=1e-13)
    assert torch.func.vmap(iso.isoscore)(X).shape == (3,)
