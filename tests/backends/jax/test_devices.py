"""Clouds that lie on two devices (of the four that the host is told to have), or all, against NumPy and autograd."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT, random_cov

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation import ADAPTERS

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

SEVERAL_DEVICES = jax.device_count() > 1
DIM = 12
ROWS = pytest.mark.parametrize("rows", [8, 20])  # fewer than the dimensions, and more
ESTIMATOR = pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
MASKS = {
    "no mask": lambda rows: None,
    "uneven": lambda rows: np.arange(rows) % np.where(np.arange(rows) < rows / 2, 9, 2) != 1,
    "one device without points": lambda rows: np.arange(rows) >= rows / 2,
}
MASKED = pytest.mark.parametrize("mask", MASKS)


@pytest.mark.slow
@pytest.mark.skipif(SEVERAL_DEVICES, reason="the tests below run in this process")
def test_in_a_process_that_has_several(tmp_path: Path) -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    options = ["-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    chosen = ["-k", "TestSeveralDevices"]
    command = [sys.executable, "-m", "pytest", *options, *chosen, str(Path(__file__))]
    # From elsewhere, since the root of the checkout holds the package without its backends.
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | flags)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout


def close(got: Any, expected: Any) -> bool:
    """Compare with 1e-12 of the largest entry: two orders of the same float64 sums differ by some ε."""
    return bool(np.abs(np.asarray(got) - np.asarray(expected)).max() <= 1e-12 * np.abs(expected).max())


COV = random_cov(np.random.default_rng(3), DIM)


def loss_of(estimator: str) -> Callable[..., Any]:
    cov = COV if estimator == "shrinkage" else None

    def loss(x: Any, mask: Any = None, across: Any = None) -> Any:
        return iso.istar_loss(x, cov, 0.3, 2.0, mask=mask, estimator=estimator, across=across)

    return loss


def with_weights(loss: Callable[..., Any], across: Any = None) -> Callable[..., Any]:
    """Give the loss of points, its gradient, and that for weights by which they are multiplied."""

    def step(w: Any, x: Any, *mask: Any) -> Any:
        value, gradient = jax.value_and_grad(lambda x: loss(x, *mask, across=across))(x)
        clean = jnp.where(mask[0][:, None], x, 0) if mask else x
        return value, gradient, jax.grad(lambda w: loss(clean @ w, *mask, across=across))(w)

    return step


def alone(loss: Callable[..., Any], points: np.ndarray, weights: np.ndarray, *mask: np.ndarray) -> tuple[Any, ...]:
    """Give the same of NumPy arrays, by autograd, which has nothing to compile."""
    autograd = pytest.importorskip("autograd")
    clean = np.where(mask[0][:, None], points, 0) if mask else points
    return *autograd.value_and_grad(loss)(points, *mask), autograd.grad(lambda w: loss(clean @ w, *mask))(weights)


def step_alone(loss: Callable[..., Any], points: np.ndarray, *mask: np.ndarray) -> tuple[Any, Any]:
    return pytest.importorskip("autograd").value_and_grad(loss)(points, *mask)


# Kept, so that each is compiled once for all masks.
@functools.cache
def of_two(mesh: Any, estimator: str, check_vma: bool, arguments: int) -> Callable[..., Any]:
    step = with_weights(loss_of(estimator), "data")

    def on_each(*given: Any) -> Any:
        value, gradient, of_weights = step(*given)
        if check_vma:
            return value, gradient, of_weights
        # What the module says about check_vma=False: JAX differentiates the sum of both devices' equal losses.
        return value, gradient / 2, jax.lax.pmean(of_weights, "data")

    specs = {"in_specs": (P(), *arguments * (P("data"),)), "out_specs": (P(), P("data"), P())}
    return jax.jit(jax.shard_map(on_each, mesh=mesh, check_vma=check_vma, **specs))


class TestSeveralDevices:
    __test__ = SEVERAL_DEVICES

    @pytest.fixture
    def mesh(self) -> Any:
        return jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))

    @pytest.fixture
    def points(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        return rng.normal(size=(rows, DIM)) * np.linspace(0.3, 2, DIM) + 5

    @pytest.fixture
    def loss(self, estimator: str) -> Callable[..., Any]:
        return loss_of(estimator)

    @pytest.mark.sampled
    @ESTIMATOR
    @MASKED
    @pytest.mark.parametrize(("rows", "check_vma"), [(8, True), (20, True), (20, False)])
    def test_across_equals_one_device(
        self, mesh: Any, points: np.ndarray, estimator: str, rows: int, mask: str, check_vma: bool
    ) -> None:
        keep, weights = MASKS[mask](rows), np.random.default_rng(0).normal(size=(DIM, DIM))
        given = (points,) if keep is None else (np.where(keep[:, None], points, np.nan), keep)
        value, gradient, of_weights = alone(loss_of(estimator), given[0], weights, *given[1:])
        got = of_two(mesh, estimator, check_vma, len(given))(weights, *given)
        assert abs(float(got[0]) - float(value)) < 1e-12
        assert close(got[1], gradient)
        assert close(got[2], of_weights)

    @pytest.mark.sampled
    @ESTIMATOR
    @pytest.mark.parametrize("rows", [20])
    def test_derivatives_of_a_mapped_loss(self, mesh: Any, points: np.ndarray, loss: Callable[..., Any]) -> None:
        X = jnp.asarray(points)
        global_loss = jax.shard_map(lambda x: loss(x, across="data"), mesh=mesh, in_specs=P("data"), out_specs=P())
        for derivative in (jax.grad, jax.hessian):
            assert close(jax.jit(derivative(global_loss))(X), jax.jit(derivative(loss))(X))

    @pytest.mark.sampled("estimator")
    @pytest.mark.parametrize("sequences", [6, 8, 2])  # three a device, four, and too few in all
    @pytest.mark.parametrize("estimator", ["unbiased", "anchored"])
    def test_sequences_across_devices(
        self, mesh: Any, rng: np.random.Generator, sequences: int, estimator: str
    ) -> None:
        X = rng.normal(size=(sequences, 5, DIM)) + rng.normal(size=(sequences, 1, DIM))
        cov, weights = random_cov(rng, DIM), rng.normal(size=(DIM, DIM))

        def loss(x: Any, across: Any = None) -> Any:
            return iso.istar_loss(x, cov, estimator=estimator, across=across)

        def both(x: Any, w: Any, across: Any = None) -> Any:
            return *jax.value_and_grad(loss)(x, across), jax.grad(lambda w: loss(x @ w, across))(w)

        mapped = jax.shard_map(
            lambda x, w: both(x, w, "data"), mesh=mesh, in_specs=(P("data"), P()), out_specs=(P(), P("data"), P())
        )
        found = jax.jit(mapped)(X, weights)
        for got, expected in zip(found, alone(loss, X, weights), strict=True):
            assert close(got, expected)
        if sequences < 4 and estimator == "unbiased":
            assert not np.asarray(found[1]).any()

    def test_one_sequence_a_device(self, rng: np.random.Generator) -> None:
        X, mesh = rng.normal(size=(4, 5, DIM)), jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
        step = jax.shard_map(
            jax.value_and_grad(lambda x: iso.istar_loss(x, estimator="unbiased", across="data")),
            mesh=mesh,
            in_specs=P("data"),
            out_specs=(P(), P("data")),
        )
        expected = step_alone(lambda x: iso.istar_loss(x, estimator="unbiased"), X)
        for got, want in zip(jax.jit(step)(X), expected, strict=True):
            assert close(got, want)

    @pytest.mark.sampled
    @pytest.mark.parametrize("sequences", [8, 6])  # as many of each half on both devices, and not
    @pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
    def test_halves_of_sharded_sequences(self, rng: np.random.Generator, sequences: int, kind: Any) -> None:
        X, mesh = rng.normal(size=(sequences, 5, DIM)), jax.make_mesh((2,), ("data",), axis_types=(kind,))

        def loss(x: Any) -> Any:
            return iso.istar_loss(x, estimator="unbiased")

        expected, step = step_alone(loss, X), jax.value_and_grad(loss)
        with jax.set_mesh(mesh):
            sharded = jax.device_put(X, NamedSharding(mesh, P("data")))
            for got in (step(sharded), jax.jit(step)(sharded)):
                assert close(got[0], expected[0])
                assert close(got[1], expected[1])

    def test_a_tuple_of_axes(self, rng: np.random.Generator) -> None:
        mesh = jax.make_mesh((1, 2), ("model", "data"), axis_types=2 * (AxisType.Auto,))
        points = rng.normal(size=(20, DIM))
        score = jax.shard_map(
            lambda x: iso.isoscore(x, across=("model", "data")), mesh=mesh, in_specs=P(("model", "data")), out_specs=P()
        )
        assert float(score(jnp.asarray(points))) == pytest.approx(reference.isoscore_star(points), abs=1e-12)

    def test_identical_points_have_exactly_no_spread(self, mesh: Any) -> None:
        score = jax.shard_map(lambda x: iso.isoscore(x, across="data"), mesh=mesh, in_specs=P("data"), out_specs=P())
        X = jnp.full((6, 3), 0.1)
        assert float(score(X)) == 0
        assert not np.asarray(jax.jit(jax.grad(score))(X)).any()

    @ESTIMATOR
    @pytest.mark.parametrize("rows", [20])
    def test_gradient_of_the_union_needs_little_exchange(
        self, mesh: Any, points: np.ndarray, loss: Callable[..., Any], estimator: str
    ) -> None:
        step = jax.shard_map(
            jax.value_and_grad(lambda x: loss(x, across="data")),
            mesh=mesh,
            in_specs=P("data"),
            out_specs=(P(), P("data")),
        )
        exchanges = re.findall(r"all-\w+(?=\()", jax.jit(step).lower(jnp.asarray(points)).compile().as_text())
        # Anchor, sums, scatter; backward nothing. The fourth order adds its sum and, backward, that for the mean.
        assert exchanges == ["all-reduce"] * (3 if estimator == "shrinkage" else 5)

    def test_pmap_with_averaged_gradients(self, rng: np.random.Generator) -> None:
        points, weights = rng.normal(size=(20, DIM)), rng.normal(size=(DIM, DIM))
        step = jax.pmap(
            lambda w, x: jax.lax.pmean(jax.grad(lambda w: iso.isoscore(x @ w, across="i"))(w), "i"),
            axis_name="i",
            in_axes=(None, 0),
        )
        expected = alone(iso.isoscore, points, weights)[2]
        for gradient in step(weights, points.reshape(2, 10, DIM)):
            assert close(gradient, expected)

    @pytest.mark.sampled
    @ROWS
    @ESTIMATOR
    @pytest.mark.parametrize("mask", ["no mask", "uneven"])
    @pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
    def test_sharded_arrays_need_no_axis(
        self, points: np.ndarray, loss: Callable[..., Any], rows: int, mask: str, kind: Any
    ) -> None:
        mesh, keep = jax.make_mesh((2,), ("data",), axis_types=(kind,)), MASKS[mask](rows)
        given = (points,) if keep is None else (points, keep)
        value, gradient = step_alone(loss, *given)
        with jax.set_mesh(mesh):
            sharded = [jax.device_put(array, NamedSharding(mesh, P("data"))) for array in given]
            step = jax.jit(jax.value_and_grad(loss)).lower(*sharded).compile()
            got = step(*sharded)
            gathered = re.findall(r"= (\S+) all-gather", step.as_text())
            if keep is not None:  # operation by operation: without a mask they are the same but for fewer
                assert float(loss(*sharded)) == pytest.approx(float(value), abs=1e-12)
        assert float(got[0]) == pytest.approx(float(value), abs=1e-12)
        assert close(got[1], gradient)
        assert len(got[1].devices()) == 2
        if rows > DIM:
            assert not [array for array in gathered if array.startswith(f"f64[{rows},{DIM}]")]

    @pytest.mark.sampled
    @pytest.mark.parametrize("rows", [1004, 4004, 4096])
    @pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
    def test_blocks_of_sharded_rows_stay_where_they_are(self, mesh: Any, rows: int, estimator: str) -> None:
        def loss(x: Any) -> Any:
            return iso.istar_loss(x, zeta=0.0, estimator=estimator)

        X = jnp.asarray(np.random.default_rng(0).normal(size=(rows, 2)), jnp.float32)
        sharded = jax.device_put(X, NamedSharding(mesh, P("data")))
        step = jax.jit(jax.value_and_grad(loss)).lower(sharded).compile()
        exchanged = re.findall(r"= \S*?\[([\d,]*)\]\S* (?:all|collective)-(?!reduce)", step.as_text())
        assert all(np.prod([int(n) for n in shape.split(",")]) <= 64 for shape in exchanged)  # what fills up a block
        assert float(step(sharded)[0]) == pytest.approx(float(loss(np.asarray(X))), abs=1e-5)

    def test_mask_and_target_follow_the_points(self, rng: np.random.Generator) -> None:
        first, second = jax.devices()[:2]
        points, cov, keep = rng.normal(size=(20, DIM)), random_cov(rng, DIM), np.arange(20) % 3 != 1
        expected = reference.isoscore_star(points[keep], cov, 0.3)
        X = jax.device_put(points, second)
        for given in ((cov, keep), (jax.device_put(cov, first), jax.device_put(keep, first))):
            score = iso.isoscore_star(X, given[0], 0.3, mask=given[1])
            assert score.devices() == {second}
            assert float(score) == pytest.approx(expected, abs=1e-12)

    def test_names_of_devices(self) -> None:
        adapter = ADAPTERS["jax"]
        assert adapter.devices()[:2] == ("cpu", "cpu:1")
        assert adapter.native(np.eye(3), "float32", "cpu:1").devices() == {jax.devices()[1]}
