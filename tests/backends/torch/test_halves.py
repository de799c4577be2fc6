"""Two halves and the anchored loss in torch: derivatives of two orders, under vmap, and views instead of copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

SHAPES = [(6, 5, 4), (8, 3, 40), (5, 30, 5)]
"""More points than dimensions in a half, fewer, and an odd number of groups."""


def loss_of(estimator: str, shape: tuple[int, int, int], masked: bool) -> tuple[Any, Callable[[Any], Any]]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(*shape, generator=generator, dtype=torch.float64)
    states = states + 2 * torch.randn(shape[0], 1, shape[2], generator=generator, dtype=torch.float64)
    mask = torch.rand(*shape[:2], generator=generator) > 0.2 if masked else None
    if mask is not None:
        mask[:, 0] = True
    root = torch.randn(shape[2], shape[2], generator=generator, dtype=torch.float64)
    cov = root @ root.T if estimator == "anchored" else None
    return states, lambda x: iso.istar_loss(x, cov, estimator=estimator, mask=mask)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("estimator", ["unbiased", "anchored"])
def test_two_orders_of_derivatives(estimator: str, masked: bool, shape: tuple[int, int, int]) -> None:
    states, loss = loss_of(estimator, shape, masked)
    assert torch.autograd.gradcheck(loss, states.requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, states, fast_mode=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("estimator", ["unbiased", "anchored"])
def test_vmap(estimator: str, shape: tuple[int, int, int]) -> None:
    states, loss = loss_of(estimator, shape, masked=True)
    batch = torch.stack([states, states.flip(-1), 2 * states])
    together = torch.vmap(torch.func.grad(loss))(batch)
    each = torch.stack([torch.func.grad(loss)(part) for part in batch])
    assert (together - each).abs().max() <= 1e-14 * each.abs().max()


def test_no_gradient_for_the_anchor() -> None:
    states = torch.randn(10, 4, dtype=torch.float64)
    cov = torch.eye(4, dtype=torch.float64).requires_grad_()
    loss = iso.istar_loss(states.requires_grad_(), cov, estimator="anchored")
    assert torch.autograd.grad(loss, cov, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(loss, states)[0].any()


def test_an_even_number_of_groups_is_not_copied() -> None:
    backend = iso.get_backend("torch")
    states = torch.randn(6, 5, 4)
    for start in (0, 1):
        first, second = backend.in_turn(states, 0, start)
        assert torch.equal(first, states[start::2])
        assert torch.equal(second, states[1 - start :: 2])
        assert first.untyped_storage().data_ptr() == states.untyped_storage().data_ptr()
