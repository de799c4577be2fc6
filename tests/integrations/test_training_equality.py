"""The same network, weights and data, trained with I-STAR by each framework's own means, ends with the same weights.

The judge is a loop that shares nothing with the library: torch differentiates Algorithm 1 through its eigenvalues. All
is float64; 50 steps of plain gradient descent multiply a difference of one rounding, 1e-16, by far less than 1e7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso

STEPS, RATE, ZETA = 50, 0.1, 0.3
Loss = Callable[[Any], Any]
Weights = list[np.ndarray]


class Task(NamedTuple):
    """Regression by a network with one hidden layer of tanh, whose states the penalty sees."""

    inputs: np.ndarray
    targets: np.ndarray
    mask: np.ndarray
    cov: np.ndarray
    start: Weights


@pytest.fixture(scope="module")
def task() -> Task:
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(24, 5)) * np.array([2.0, 1, 1, 0.3, 0.1])
    start = [rng.normal(size=(5, 12)) / 2, rng.normal(size=12) / 2, rng.normal(size=(12, 2)) / 3]
    return Task(inputs, inputs[:, :2] * inputs[:, 1:3], np.arange(24) % 4 != 3, random_cov(rng, 12), start)


def by_torch(task: Task, penalty: Loss) -> Weights:
    import torch

    weights = [torch.tensor(w, requires_grad=True) for w in task.start]
    inputs, targets = torch.from_numpy(task.inputs), torch.from_numpy(task.targets)
    optimizer = torch.optim.SGD(weights, lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        states = torch.tanh(inputs @ weights[0] + weights[1])
        (((states @ weights[2] - targets) ** 2).mean() + penalty(states)).backward()
        optimizer.step()
    return [w.detach().numpy() for w in weights]


def by_autograd(task: Task, penalty: Loss) -> Weights:
    import autograd
    import autograd.numpy as anp

    def loss(weights: Sequence[Any]) -> Any:
        states = anp.tanh(task.inputs @ weights[0] + weights[1])
        return anp.mean((states @ weights[2] - task.targets) ** 2) + penalty(states)

    weights = list(task.start)
    for _ in range(STEPS):
        weights = [w - RATE * g for w, g in zip(weights, autograd.grad(loss)(weights), strict=True)]
    return weights


def by_jax(task: Task, penalty: Loss) -> Weights:
    import jax
    import jax.numpy as jnp
    import optax

    def loss(weights: list[Any]) -> Any:
        states = jnp.tanh(task.inputs @ weights[0] + weights[1])
        return jnp.mean((states @ weights[2] - task.targets) ** 2) + penalty(states)

    optimizer = optax.sgd(RATE)

    @jax.jit
    def step(weights: list[Any], state: Any) -> tuple[list[Any], Any]:
        updates, state = optimizer.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, updates), state

    weights = [jnp.asarray(w) for w in task.start]
    state = optimizer.init(weights)
    for _ in range(STEPS):
        weights, state = step(weights, state)
    return [np.asarray(w) for w in weights]


def by_tensorflow(task: Task, penalty: Loss) -> Weights:
    import tensorflow as tf

    weights = [tf.Variable(w) for w in task.start]

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            states = tf.tanh(task.inputs @ weights[0] + weights[1])
            loss = tf.reduce_mean((states @ weights[2] - task.targets) ** 2) + penalty(states)
        for w, g in zip(weights, tape.gradient(loss, weights), strict=True):
            w.assign_sub(RATE * g)

    for _ in range(STEPS):
        step()
    return [w.numpy() for w in weights]


LOOPS = {"torch": by_torch, "autograd": by_autograd, "jax": by_jax, "tensorflow": by_tensorflow}


def algorithm_1(task: Task, lam: float) -> Loss:
    """Give the penalty as the paper prints it, steps 1 to 7, on torch's eigenvalues."""
    import torch

    keep, target = torch.from_numpy(task.mask), torch.from_numpy(task.cov)
    d = len(task.cov)

    def penalty(states: Any) -> Any:
        cov = (1 - ZETA) * torch.cov(states[keep].T) + ZETA * target
        values = torch.linalg.eigvalsh(cov)
        values = d**0.5 * values / values.norm()
        defect = (values - 1).norm() / (2 * (d - d**0.5)) ** 0.5
        phi = (d - defect**2 * (d - d**0.5)) ** 2 / d**2
        return lam * (1 - (d * phi - 1) / (d - 1))

    return penalty


def loop(name: str) -> Callable[[Task, Loss], Weights]:
    if name not in iso.available_backends():
        pytest.skip(f"{name} is not installed")
    if name == "jax":
        pytest.importorskip("optax")
    return LOOPS[name]


def difference(found: Weights, expected: Weights) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("lam", [1.0, -0.3])
def test_training_equals_algorithm_1(task: Task, name: str, lam: float) -> None:
    pytest.importorskip("torch")
    found = loop(name)(task, lambda states: iso.istar_loss(states, task.cov, ZETA, lam, mask=task.mask))
    assert difference(found, by_torch(task, algorithm_1(task, lam))) < 1e-9
    assert difference(found, by_torch(task, lambda states: 0 * states.sum())) > 1e-3  # the penalty mattered


@pytest.mark.parametrize("name", LOOPS)
def test_training_with_the_unbiased_score(task: Task, name: str) -> None:
    pytest.importorskip("autograd")

    def penalty(states: Any) -> Any:
        return iso.istar_loss(states, lam=0.5, mask=task.mask, estimator="unbiased")

    assert difference(loop(name)(task, penalty), by_autograd(task, penalty)) < 1e-9
