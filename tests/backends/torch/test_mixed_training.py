"""Inside a training step: half precision with a loss scale, activation checkpointing, activations kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402

from isoscore_star.backends.torch import IStarLoss  # noqa: E402

DIM, ROWS = 12, 40
ESTIMATORS = ["shrinkage", "unbiased"]


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, DIM), torch.nn.Tanh(), torch.nn.Linear(DIM, DIM)).double()


def points() -> torch.Tensor:
    return torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def penalty(estimator: str) -> IStarLoss:
    return IStarLoss(DIM, 1.0, 0.3, None if estimator == "unbiased" else torch.eye(DIM), estimator)


def gradients(net: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


@pytest.mark.parametrize("rows", [7, ROWS])  # the Gram form, and the scatter form
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("way", ["offloaded", "checkpointed", "checkpointed reentrant"])
def test_the_gradient_is_the_same_however_activations_are_kept(way: str, estimator: str, rows: int) -> None:
    net, loss, X = network(), penalty(estimator), points()[:rows].requires_grad_()

    def forward(x: torch.Tensor) -> torch.Tensor:
        return loss(net(x))

    run: Callable[[torch.Tensor], Any] = forward
    if way != "offloaded":
        run = lambda x: checkpoint(forward, x, use_reentrant=way.endswith("reentrant"))  # noqa: E731
    expected = gradients(net, forward(X))
    with torch.autograd.graph.save_on_cpu() if way == "offloaded" else nullcontext():
        value = run(X)
    net.zero_grad()
    value.backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)
        assert gradient.any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_with_a_loss_scale(dtype: torch.dtype, estimator: str) -> None:
    net, loss, X = network().float(), penalty(estimator), points().float()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with torch.autocast("cpu", dtype=dtype):
        states = net(X)
        states.retain_grad()
        value = loss(states)
    assert states.dtype == dtype
    assert value.dtype == torch.float32
    scaler.scale(value).backward()
    scaled = states.grad.double()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)

    exact = states.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(loss(exact), exact)
    # The gradient was computed in float32 from the rounded states, then rounded once to their own precision.
    unit = torch.finfo(dtype).eps / 2
    assert (scaled / 2.0**12 - wanted).abs().max() <= 1.01 * unit * wanted.abs().max()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())
    assert 0 < float(iso.isoscore(states.detach())) < 1
