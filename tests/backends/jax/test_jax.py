"""Transformations, precision, recompilation and axes: what is particular to JAX."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adapters import ROOT, random_cov

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation import ADAPTERS

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from support_jax import close, products  # noqa: E402

BACKEND = iso.get_backend("jax")
ROWS = pytest.mark.parametrize("rows", [5, 14])  # the Gram form and the scatter form of six dimensions
ESTIMATOR = pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])


def loss_of(estimator: str, cov: Any = None, mask: Any = None) -> Callable[..., Any]:
    def loss(X: Any) -> Any:
        return iso.istar_loss(X, cov, 0.3 if cov is not None else 0.0, 2.0, mask=mask, estimator=estimator)

    return loss


def cov_of(estimator: str, rng: np.random.Generator, dim: int = 6) -> Any:
    return random_cov(rng, dim) if estimator == "shrinkage" else None


@pytest.mark.sampled
@ROWS
@ESTIMATOR
def test_two_orders_in_both_modes_for_every_argument(rng: np.random.Generator, rows: int, estimator: str) -> None:
    clouds = [jnp.asarray(rng.normal(size=(m, 6)) + 1) for m in (2, rows - 2)]
    masks = [None, np.arange(rows - 2) % 4 != 1]

    def loss(clouds: Any, factor: Any, zeta: Any, lam: Any) -> Any:
        if estimator == "unbiased":
            return iso.istar_loss(clouds, lam=lam, mask=masks, estimator="unbiased")
        return iso.istar_loss(clouds, factor.T @ factor, zeta, lam, mask=masks)

    given = (clouds, jnp.asarray(rng.normal(size=(8, 6))), jnp.asarray(0.3), jnp.asarray(-1.5))
    check_grads(loss, given, order=2, modes=("fwd", "rev"))


@ROWS
def test_hessian_against_differences_of_algorithm_1(rng: np.random.Generator, rows: int) -> None:
    points, cov, way = rng.normal(size=(rows, 6)), random_cov(rng, 6), rng.normal(size=(rows, 6))
    hessian = jax.jit(jax.hessian(lambda x: iso.isoscore_star(x, cov, 0.3)))(jnp.asarray(points))
    step = 1e-4
    ahead, here, behind = (reference.isoscore_star(points + k * step * way, cov, 0.3) for k in (1, 0, -1))
    curvature = (ahead - 2 * here + behind) / step**2
    got = float(jnp.einsum("ij,ijkl,kl", way, hessian, way))
    assert got == pytest.approx(curvature, abs=1e-6)  # ε/step² + step², the latter times a fourth derivative


@pytest.mark.sampled
@ROWS
@ESTIMATOR
def test_vmap(rng: np.random.Generator, rows: int, estimator: str) -> None:
    points, keep = rng.normal(size=(3, rows, 6)), rng.random((3, rows)) < 0.8
    keep[:, :4] = True
    X, cov = jnp.asarray(points), cov_of(estimator, rng)

    def loss(x: Any, mask: Any) -> Any:
        return loss_of(estimator, cov, mask)(x)

    if estimator == "shrinkage":
        expected = [2 * (1 - reference.isoscore_star(x[k], cov, 0.3)) for x, k in zip(points, keep, strict=True)]
    else:
        expected = [iso.istar_loss(x[k], lam=2, estimator="unbiased") for x, k in zip(points, keep, strict=True)]
    assert close(jax.vmap(loss)(X, keep), expected)
    gradient = jax.jit(jax.grad(loss))
    assert close(jax.vmap(gradient)(X, keep), np.stack([gradient(x, k) for x, k in zip(X, keep, strict=True)]))


@pytest.mark.sampled
@ROWS
@ESTIMATOR
def test_jit_checkpoint_and_scan(rng: np.random.Generator, rows: int, estimator: str) -> None:
    X = jnp.asarray(rng.normal(size=(rows, 6)) * np.linspace(0.2, 2, 6))
    loss = loss_of(estimator, cov_of(estimator, rng))
    gradient, compiled = jax.grad(loss)(X), jax.jit(jax.grad(loss))
    assert close(compiled(X), gradient)
    assert close(jax.grad(jax.checkpoint(loss))(X), gradient)

    def descend(x: Any, _: Any) -> tuple[Any, Any]:
        return x - 0.1 * jax.grad(jax.checkpoint(loss))(x), loss(x)

    last, losses = jax.lax.scan(descend, X, length=20)
    looped = X
    for _ in range(20):
        looped = looped - 0.1 * compiled(looped)
    assert close(last, looped, 1e-10)  # the rounding of twenty steps adds up
    assert (np.diff(losses) < 0).all()


def test_donated_buffers(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 6))
    step = jax.jit(lambda x: x - jax.grad(iso.isoscore)(x), donate_argnums=0)
    X = jnp.asarray(points)
    assert close(step(X), points - np.asarray(jax.grad(iso.isoscore)(jnp.asarray(points))))
    assert X.is_deleted()


@ROWS
def test_schedules_and_targets_compile_nothing_anew(
    rng: np.random.Generator, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    points, traces = rng.normal(size=(rows, 6)), 0

    @jax.jit
    def loss(x: Any, cov: Any, zeta: Any, lam: Any) -> Any:
        nonlocal traces
        traces += 1
        return iso.istar_loss(x, cov, zeta, lam)

    for zeta, lam in ((0.0, 1.0), (0.5, -3.0), (1.0, 0.0)):
        cov = random_cov(rng, 6)
        got = loss(jnp.asarray(points), jnp.asarray(cov), jnp.asarray(zeta), jnp.asarray(lam))
        assert float(got) == pytest.approx(lam * (1 - reference.isoscore_star(points, cov, zeta)), abs=1e-12)
    assert traces == 1

    def gradients(zeta: float) -> None:
        jax.grad(lambda x: iso.istar_loss(x, random_cov(rng, 6), zeta))(jnp.asarray(points))
        jax.grad(lambda x: iso.istar_loss(x, estimator="unbiased"))(jnp.asarray(points))

    gradients(0.2)
    with jax.log_compiles():
        gradients(0.7)
        assert "compil" not in caplog.text.lower()
        iso.isoscore(jnp.zeros((rows, 6)).at[0].set(1.0)[:-1])
        assert "compil" in caplog.text.lower()  # of another shape: the log can tell


@pytest.mark.parametrize(
    ("rows", "estimator", "forward", "both"),
    [(5, "shrinkage", 2, 3), (14, "shrinkage", 1, 2), (5, "unbiased", 1, 2), (14, "unbiased", 1, 2)],
)
def test_products_are_few_and_exact(
    rng: np.random.Generator, rows: int, estimator: str, forward: int, both: int
) -> None:
    X = jnp.asarray(rng.normal(size=(rows, 6)), jnp.float32)
    loss = loss_of(estimator, cov_of(estimator, rng), np.arange(rows) != 3)
    assert len(list(products(loss, X))) == forward
    found = list(products(jax.value_and_grad(loss), X))
    assert len(found) == both  # one forward, one backward, and one with Σ_S where there are few points
    highest = jax.lax.Precision.HIGHEST
    assert all(product.params["precision"] == (highest, highest) for product in found)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="on a GPU the libraries of products take their own memory")
@pytest.mark.parametrize(("rows", "points", "matrices"), [(64, 4, 0), (4096, 1, 1)])
def test_no_needless_matrices(rng: np.random.Generator, rows: int, points: int, matrices: int) -> None:
    # The gradient needs the centred points and one weight matrix; the rest is fused. A tenth is room for vectors.
    X, cov = jnp.ones((rows, 512), jnp.float32), jnp.eye(512, dtype=jnp.float32)
    step = jax.jit(jax.value_and_grad(lambda x: iso.istar_loss(x, cov)))
    memory = step.lower(X).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 1.1 * (points * X.nbytes + matrices * cov.nbytes)


@ROWS
@pytest.mark.parametrize("scale", [1e15, 1e-15])
def test_gradients_at_any_scale_in_float32(rng: np.random.Generator, rows: int, scale: float) -> None:
    points = rng.normal(size=(rows, 6)) * np.linspace(0.5, 2, 6)
    got = np.asarray(jax.grad(iso.isoscore)(jnp.asarray(points * scale, jnp.float32)), float) * scale
    centred = points - points.mean(0)
    cov = centred.T @ centred / (rows - 1)
    ratio = np.trace(cov) / (cov**2).sum()
    expected = 4 / ((rows - 1) * 5) * (ratio * centred - ratio**2 * centred @ cov)
    assert close(got, expected, 1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("x64", [False, True])
def test_dtypes(rng: np.random.Generator, x64: bool) -> None:
    points, cov = rng.integers(-9, 9, size=(20, 6)), random_cov(rng, 6)
    computed = {"float32": "float32", "bfloat16": "float32", "int8": "float64" if x64 else "float32"}
    with jax.enable_x64(x64):
        for dtype, expected in (computed | ({"float64": "float64"} if x64 else {"float16": "float32"})).items():
            X = jnp.asarray(points, jnp.dtype(dtype))
            score = iso.isoscore_star(X, cov, 0.2, mask=np.ones(20))
            assert (score.shape, score.dtype) == ((), expected)
            assert float(score) == pytest.approx(reference.isoscore_star(points, cov, 0.2), abs=1e-5)
            if dtype.startswith("int"):
                continue
            gradient = jax.grad(iso.isoscore)(X)
            assert gradient.dtype == dtype
            assert np.array_equal(gradient, jax.grad(iso.isoscore)(X.astype(expected)).astype(dtype))


@ROWS
@ESTIMATOR
def test_strict_settings(rng: np.random.Generator, rows: int, estimator: str) -> None:
    mask = jnp.arange(rows) != 2
    X = jnp.where(mask[:, None], jnp.asarray(rng.normal(size=(rows, 6)), jnp.float32), jnp.nan)
    cov = cov_of(estimator, rng)

    @jax.jit
    def loss(x: Any, zeta: Any) -> Any:
        return iso.istar_loss(x, cov, zeta if estimator == "shrinkage" else 0.0, mask=mask, estimator=estimator)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        value, gradient = jax.value_and_grad(loss)(X, jnp.float32(0.2))
    assert value.dtype == gradient.dtype == "float32"


def test_count_of_points_beyond_the_root_of_32_bits(rng: np.random.Generator) -> None:
    points = rng.normal(size=(70_000, 2)).astype(np.float32) * np.float32([1, 3])
    with jax.enable_x64(False):
        scores = [float(iso.isoscore_unbiased(jnp.asarray(points), mask=mask)) for mask in (None, np.ones(70_000))]
    assert scores == pytest.approx(2 * [iso.isoscore_unbiased(points)], abs=1e-5)


def test_values_are_checked_only_where_they_are_known() -> None:
    same = jnp.ones((9, 3))
    with pytest.raises(iso.DegenerateDataError, match="identical"):
        iso.isoscore(same)
    for transformed in (jax.jit(iso.isoscore), jax.grad(iso.isoscore), jax.jit(jax.hessian(iso.isoscore))):
        assert not np.asarray(transformed(same)).any()
    assert not np.asarray(jax.vmap(iso.isoscore)(same[None])).any()


def test_clouds_without_points_may_stand_beside_others(rng: np.random.Generator) -> None:
    X = jnp.asarray(rng.normal(size=(9, 4)))
    for clouds, mask in (([X[:0], X], None), ([X, X], [np.zeros(9), None])):
        assert float(iso.isoscore(clouds, mask=mask)) == pytest.approx(
            reference.isoscore_star(np.asarray(X)), abs=1e-12
        )
    far = jnp.full((9, 4), 0.1)
    with pytest.raises(iso.DegenerateDataError, match="identical"):
        iso.isoscore([X, far], mask=[np.zeros(9), None])


def test_across_a_named_axis_of_vmap(rng: np.random.Generator) -> None:
    points = rng.normal(size=(2, 3, 4, 6))
    union = jax.vmap(jax.vmap(lambda x: iso.isoscore(x, across=("a", "b")), axis_name="b"), axis_name="a")
    assert close(union(jnp.asarray(points)), np.full((2, 3), reference.isoscore_star(points.reshape(-1, 6))))
    inner = jax.vmap(jax.vmap(lambda x: iso.isoscore(x, across="b"), axis_name="b"), axis_name="a")
    each = [[reference.isoscore_star(x.reshape(-1, 6))] * 3 for x in points]
    assert close(inner(jnp.asarray(points)), np.array(each))


def test_across_what_there_is_not() -> None:
    X = jnp.eye(5)
    for name in ("data", ("data", "model")):
        with pytest.raises(iso.InvalidValueError, match=r"across: .*data.* inside of jax.shard_map"):
            iso.isoscore(X, across=name)
        with pytest.raises(iso.InvalidValueError, match="leave across out"):
            jax.jit(lambda x, n=name: iso.istar_loss(x, zeta=0.0, across=n))(X)
    for wrong in (0, (), ["data"], ("data", 1)):
        with pytest.raises(iso.InvalidTypeError, match="name of a mesh axis, or a tuple of names"):
            iso.isoscore(X, across=wrong)


def test_what_validation_needs(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 4))
    assert "cpu" in ADAPTERS["jax"].devices()
    with jax.enable_x64(False):
        X = ADAPTERS["jax"].native(points, "float64", "cpu")
        value, gradient = ADAPTERS["jax"].value_and_gradient(iso.isoscore, X)
        assert jnp.asarray(points).dtype == "float32"  # the setting is as it was
    assert {X.dtype, value.dtype, gradient.dtype} == {np.dtype("float64")}
    assert float(value) == pytest.approx(reference.isoscore_star(points), abs=1e-12)
    half = ADAPTERS["jax"].native(points, "bfloat16", "cpu")
    assert (half.dtype, BACKEND.to_numpy(half).dtype) == (jnp.bfloat16, np.float32)
    with pytest.raises(TypeError):
        ADAPTERS["jax"].native(points, "float24", "cpu")


@pytest.mark.slow
def test_the_example_raises_and_lowers_isotropy() -> None:
    pytest.importorskip("flax")
    pytest.importorskip("optax")
    command = [sys.executable, str(ROOT / "examples" / "jax_training.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"lam = +(-?\d).*accuracy ([\d.]+)%.*score (-?[\d.]+)", printed)
    scores = {lam: float(score) for lam, _, score in found}
    assert scores["1"] > scores["0"] > scores["-1"]
    assert all(float(accuracy) > 50 for _, accuracy, _ in found)  # of four topics, by chance 25
