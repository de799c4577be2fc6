"""The score of two halves and the anchored loss: derivatives of any order, products, traced labels, meshes and axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adapters import ADAPTERS, random_cov

import isoscore_star as iso

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from support_jax import close, products  # noqa: E402

SHAPE = pytest.mark.parametrize("shape", [(6, 2, 8), (5, 9, 4)])  # inner products of points; scatter, an odd number
KINDS = {
    "halves": lambda dim: {"estimator": "unbiased"},
    "anchored": lambda dim: {
        "estimator": "anchored",
        "shrinkage_cov": random_cov(np.random.default_rng(4), dim),
    },
}
KIND = pytest.mark.parametrize("kind", KINDS)


def states_of(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape) * np.linspace(0.5, 2, shape[-1]) + rng.normal(size=(shape[0], 1, shape[-1])) + 3


def loss_of(kind: str, dim: int, **more: Any) -> Callable[[Any], Any]:
    arguments = KINDS[kind](dim)
    return lambda x: iso.istar_loss(x, **arguments, **more)


@pytest.mark.slow
@pytest.mark.sampled("kind")
@KIND
@SHAPE
def test_two_orders_in_both_modes(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> None:
    mask = np.arange(shape[0] * shape[1]).reshape(shape[:2]) % 5 != 3
    layers = [jnp.asarray(states_of(rng, shape)) for _ in range(2)]
    check_grads(loss_of(kind, shape[-1], mask=mask), (layers,), order=2, modes=("fwd", "rev"))


@pytest.mark.sampled("kind")
@KIND
@SHAPE
def test_hessian_is_that_of_another_backend(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> None:
    """Compare a Hessian's product with a vector with autograd's, which differentiates the definition."""
    autograd = pytest.importorskip("autograd")
    states, way = states_of(rng, shape), rng.normal(size=shape)
    loss = loss_of(kind, shape[-1])
    expected = autograd.grad(lambda x: (autograd.grad(loss)(x) * way).sum())(states)
    hessian = jax.jit(jax.hessian(loss))(jnp.asarray(states))
    assert close(jnp.einsum("ijkabc,abc->ijk", hessian, way), expected, 1e-9)


@KIND
@SHAPE
def test_no_gradient_for_the_anchor_and_jit_and_vmap(
    rng: np.random.Generator, kind: str, shape: tuple[int, int, int]
) -> None:
    states = np.stack([states_of(rng, shape) for _ in range(3)])
    keep = rng.random(states.shape[:-1]) < 0.8
    keep[:, :, 0] = True

    def loss(x: Any, mask: Any) -> Any:
        return loss_of(kind, shape[-1], mask=mask)(x)

    each = [jax.value_and_grad(loss)(x, k) for x, k in zip(jnp.asarray(states), keep, strict=True)]
    for x, k, (value, _) in zip(states, keep, each, strict=True):
        assert float(value) == pytest.approx(float(loss(x, k)), abs=1e-12)  # NumPy's
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss)))(states, keep)
    assert close(values, np.stack([value for value, _ in each]))
    assert close(gradients, np.stack([gradient for _, gradient in each]))
    cov = jnp.asarray(random_cov(rng, shape[-1]))
    of_cov = jax.grad(lambda c: iso.istar_loss(jnp.asarray(states[0]), c, estimator="anchored"))(cov)
    assert not np.asarray(of_cov).any()


@pytest.mark.sampled
@pytest.mark.parametrize("rows", [5, 14])
@pytest.mark.parametrize("clouds", [1, 2])
def test_the_anchored_loss_takes_one_product_in_all(rng: np.random.Generator, rows: int, clouds: int) -> None:
    X = [jnp.asarray(rng.normal(size=(rows, 6)), jnp.float32) for _ in range(clouds)]
    loss = loss_of("anchored", 6, mask=np.arange(rows) != 3)
    for function in (loss, jax.value_and_grad(loss)):
        found = list(products(function, X))
        assert [product.invars[0].aval.shape for product in found] == [(rows, 6)] * clouds
        assert [product.outvars[0].aval.shape for product in found] == [(rows, 6)] * clouds  # 2·m·d·d, never d × d
        highest = jax.lax.Precision.HIGHEST
        assert all(product.params["precision"] == (highest, highest) for product in found)


@pytest.mark.sampled
@pytest.mark.parametrize(("shape", "forward", "both"), [((4, 2, 12), 1, 3), ((4, 9, 6), 2, 4)])
def test_halves_take_one_product_each_and_one_for_the_gradient(
    rng: np.random.Generator, shape: tuple[int, int, int], forward: int, both: int
) -> None:
    X = jnp.asarray(states_of(rng, shape))
    loss = loss_of("halves", shape[-1])
    assert len(list(products(loss, X))) == forward
    assert len(list(products(jax.value_and_grad(loss), X))) == both


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_traced_labels_are_the_numbers_of_groups(rng: np.random.Generator, dtype: str) -> None:
    states = states_of(rng, (6, 5, 4))
    order = rng.permutation(30)
    X, numbers = states.reshape(-1, 4)[order], np.repeat(np.arange(6), 5)[order]

    @jax.jit
    def loss(x: Any, groups: Any) -> Any:
        return iso.istar_loss(x, estimator="unbiased", groups=groups)

    expected = iso.istar_loss(states, estimator="unbiased")
    assert float(loss(X, jnp.asarray(numbers, dtype))) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(iso.InvalidTypeError, match="groups: labels that are not read"):
        loss(X, jnp.asarray(numbers, "float32"))
    # Known ones may be any: here all are even.
    assert float(iso.isoscore_unbiased(jnp.asarray(X), groups=jnp.asarray(2 * numbers))) == pytest.approx(
        1 - expected, abs=1e-12
    )


def test_strict_settings(rng: np.random.Generator) -> None:
    X = jnp.asarray(rng.normal(size=(5, 7, 6)), jnp.float32)
    for kind in KINDS:
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
            value, gradient = jax.jit(jax.value_and_grad(loss_of(kind, 6)))(X)
        assert value.dtype == gradient.dtype == "float32"
    with jax.numpy_dtype_promotion("strict"):
        union = jax.vmap(lambda x: iso.isoscore_unbiased(x[None], across="a"), axis_name="a")(X)
    assert close(union, np.full(5, iso.isoscore_unbiased(np.asarray(X))), 1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("sequences", [1, 2, 3])
def test_across_a_named_axis_of_vmap(rng: np.random.Generator, sequences: int) -> None:
    """Groups are numbered from one member of the axes to the next, also one a member."""
    states = states_of(rng, (6 * sequences, 5, 4))
    expected = iso.isoscore_unbiased(states)
    X = jnp.asarray(states.reshape(2, 3, sequences, 5, 4))
    union = jax.vmap(jax.vmap(lambda x: iso.isoscore_unbiased(x, across=("a", "b")), axis_name="b"), axis_name="a")
    assert close(union(X), np.full((2, 3), expected))


@pytest.mark.slow
def test_fewer_than_four_groups_on_all_members_train_nothing(rng: np.random.Generator) -> None:
    X = jnp.asarray(states_of(rng, (4, 5, 4)))

    def loss(x: Any) -> Any:
        return jax.vmap(lambda x: iso.istar_loss(x[None], estimator="unbiased", across="a"), axis_name="a")(x).sum()

    assert loss(X[:3]) == 3
    assert not np.asarray(jax.grad(loss)(X[:3])).any()
    assert np.asarray(jax.grad(loss)(X)).all()


def test_adapters_gradient_of_a_half_that_is_masked_wholly(rng: np.random.Generator) -> None:
    X, mask = jnp.asarray(states_of(rng, (6, 5, 4))), np.arange(6)[:, None].repeat(5, 1) % 2 == 0
    loss = loss_of("halves", 4, mask=mask)
    assert loss(X) == 1
    assert not ADAPTERS["jax"].gradient(loss, X).any()
