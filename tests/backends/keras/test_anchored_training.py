"""The anchored estimator of `IStarRegularizer` in `fit`: steps, schedules, what is saved, and where it leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import get_backend, reference

pytest.importorskip("keras")
import keras
from support_keras import CLOSE, loss_and_gradients, numpy, penalised, step_on, zeros

from isoscore_star.backends.keras import IStarCallback, IStarRegularizer
from isoscore_star.core import trust

FRAMEWORK = keras.backend.backend()

# NumPy's complaint about how torch, inside Keras, copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DIM = 16
SPREAD = np.linspace(0.2, 3, DIM) ** 1.5

KERNEL = np.eye(6)[:, :4].astype("float32")

COMPILED: list[Any] = [
    pytest.param({}, id="as Keras chooses"),
    pytest.param({"run_eagerly": True}, id="eager", marks=pytest.mark.slow),
]
if FRAMEWORK != "torch":  # whose compiler takes minutes
    COMPILED.append(pytest.param({"jit_compile": True}, id="compiled", marks=pytest.mark.slow))


def fitted(model: Any, points: np.ndarray, epochs: int = 1, **arguments: Any) -> dict[str, list[float]]:
    fit = {"batch_size": 16, "shuffle": False, "verbose": 0, "epochs": epochs, **arguments}
    history: dict[str, list[float]] = model.fit(points, zeros(points), **fit).history
    return history


def compared(own: np.ndarray, known: np.ndarray) -> float:
    """s(A, B) of a batch's covariance and of one that is independent of it."""
    return float((np.trace(own) * np.trace(known) / np.sum(own * known) - 1) / (len(own) - 1))


def own_weights(layer: Any) -> list[np.ndarray]:
    return [numpy(weight) for weight in (layer.shrinkage_cov, layer._averaged, layer._sides)]


@pytest.mark.parametrize("compiled", COMPILED)
def test_every_step_is_that_of_the_loss_with_the_batches_before(points: np.ndarray, compiled: dict[str, Any]) -> None:
    regularizer = IStarRegularizer(1.5, 0.3, "anchored")
    model = penalised(regularizer, **compiled)
    kernel, cov, losses = numpy(model.get_layer("states").kernel), None, []
    history = fitted(model, points, callbacks=[IStarCallback()])
    for number, batch in enumerate([points[:16], points[16:32], points[32:]]):
        states = batch @ kernel
        own = np.cov(states.T)
        known = own if cov is None else cov
        _, (gradient,) = loss_and_gradients(
            lambda h, known=known: iso.istar_loss(h, known, lam=1.5, estimator="anchored"), [states]
        )
        weight = 0.5 / (1 - 0.5 ** (number + 1))
        cov = own if cov is None else cov + weight * (own - cov)
        kernel = kernel - 0.5 * batch.T @ gradient
        losses.append(1.5 * (1 - compared(own, known)))
    assert history["loss"] == pytest.approx([np.mean(losses)], abs=CLOSE)
    assert np.allclose(numpy(model.get_layer("states").kernel), kernel, rtol=0, atol=10 * CLOSE)
    assert np.allclose(numpy(regularizer.shrinkage_cov), cov, rtol=0, atol=10 * CLOSE * np.abs(cov).max())
    assert -0.5 < history["isoscore_star"][0] < 1.5


@pytest.mark.parametrize("compiled", COMPILED)
def test_far_from_a_constant_covariance_every_step_is_the_papers(points: np.ndarray, compiled: dict[str, Any]) -> None:
    values, vectors = np.linalg.eigh(np.cov(points.T)[:4, :4])
    kernel = KERNEL
    cov = vectors / values @ vectors.T  # most variance where the states have least
    regularizer = IStarRegularizer(1.0, 0.3, "anchored", cov)
    model = penalised(regularizer, kernel=keras.initializers.Constant(kernel), **compiled)
    model(points, training=True)  # by which the trust test judges the first step
    fitted(model, points)
    for batch in (points[:16], points[16:32], points[32:]):
        kernel = step_on(kernel, batch, 1.0, cov, 0.3)
    assert not regularizer.trusted
    assert np.allclose(numpy(model.get_layer("states").kernel), kernel, rtol=0, atol=10 * CLOSE)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(points: np.ndarray, policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = penalised(IStarRegularizer(1.0, estimator="anchored"), kernel=keras.initializers.Constant(KERNEL))
        states = numpy(model.layers[0](points))
    finally:
        keras.config.set_dtype_policy("float32")
    history = fitted(model, points, epochs=3, batch_size=48)
    assert history["loss"][0] == pytest.approx(1 - reference.isoscore_star(states), abs=1e-3)
    assert history["loss"][2] < history["loss"][0]
    assert (numpy(model.layers[1].shrinkage_cov).diagonal() > 0).all()


def test_batches_of_any_length_with_the_mask_of_an_embedding(rng: np.random.Generator) -> None:
    embedding = keras.layers.Embedding(9, 4, mask_zero=True)
    regularizer = IStarRegularizer(1.0, estimator="anchored", running_average=0.0)
    head = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)
    layers = [embedding, regularizer, keras.layers.GlobalAveragePooling1D(), head]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    batches = [rng.integers(0, 9, size=shape).astype("int32") for shape in [(8, 7), (5, 11), (3, 2), (64, 30)]]

    def again() -> Iterator[Any]:
        for tokens in batches:
            yield tokens, zeros(tokens)

    loss = model.fit(again(), steps_per_epoch=len(batches), verbose=0, shuffle=False).history["loss"][0]
    table = numpy(embedding.embeddings)
    states = [table[tokens[tokens > 0]] for tokens in batches]
    sampled = get_backend("numpy").some_along(batches[-1], 1, 512, 64 * 30)
    covs = [np.cov(part.T) for part in [*states[:-1], table[sampled[sampled > 0]]]]
    assert np.allclose(numpy(regularizer.shrinkage_cov), covs[-1], rtol=1e-4, atol=1e-7)
    scores = [reference.isoscore_star(states[0])]  # before which there is no other
    scores += [compared(np.cov(part.T), known) for part, known in zip(states[1:], covs, strict=False)]
    rows = [len(tokens) for tokens in batches]
    assert loss == pytest.approx(1 - np.average(scores, weights=rows), abs=1e-3)


def test_the_callback_may_refresh_a_constant_covariance(points: np.ndarray) -> None:
    regularizer = IStarRegularizer(1.0, 0.2, "anchored", "later")
    model = penalised(regularizer, kernel=keras.initializers.Constant(KERNEL))
    model.optimizer.learning_rate = 0.0
    history = fitted(model, points, epochs=2, callbacks=[IStarCallback(points)])
    assert np.isfinite(history["isoscore_star"]).all()
    cov = np.cov((points @ KERNEL).T)
    assert np.allclose(numpy(regularizer.shrinkage_cov), cov, rtol=0, atol=CLOSE * cov.max())


@pytest.mark.slow
def test_a_resumed_training_is_as_one_that_never_stopped(points: np.ndarray, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = penalised(IStarRegularizer(1.0, 0.3, "anchored", running_average=0.95, name="it"))
    fitted(model, points)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "it.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fresh = penalised(IStarRegularizer(1.0, 0.3, "anchored", running_average=0.95, name="it"))
    fresh.load_weights(tmp_path / "it.weights.h5")
    for other in (loaded, fresh):
        pairs = zip(own_weights(other.get_layer("it")), own_weights(model.get_layer("it")), strict=True)
        assert all(np.array_equal(ours, theirs) and ours.any() for ours, theirs in pairs)
    histories = [fitted(each, points)["loss"] for each in (model, loaded, fresh)]
    assert histories[0] == histories[1] == histories[2]
    pairs = zip(own_weights(loaded.get_layer("it")), own_weights(model.get_layer("it")), strict=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)


# Where it leads


def start(seed: int, batches: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(20 * batches, 8, DIM)) * SPREAD).astype("float32")


def covariance(states: np.ndarray) -> np.ndarray:
    return np.cov(states.reshape(-1, DIM).T)


def trained_network(regularizer: Any, steps: int) -> float:
    """Train a network on new batches each time, and return the true score of its states on others."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(DIM, "tanh"), keras.layers.Dense(DIM, name="states")]
    silent = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)
    model = keras.Sequential([keras.Input((8, DIM)), *hidden, regularizer, silent])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x = start(1, steps)
    model.fit(x, x[..., :1] * 0, batch_size=20, shuffle=False, verbose=0)
    states = start(2, 50)
    for layer in hidden:
        states = layer(states)
    return iso.isoscore(numpy(states).reshape(-1, DIM))


def trained_cloud(regularizer: Any, steps: int) -> float:
    """Train a cloud whose points are free, and return its true score."""
    points = start(0, 1)
    table = keras.layers.Embedding(
        160, DIM, embeddings_initializer=keras.initializers.Constant(points.reshape(160, DIM))
    )
    silent = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)
    model = keras.Sequential([keras.Input((8,), dtype="int32"), table, regularizer, silent])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    ids = np.tile(np.arange(160, dtype="int32").reshape(20, 8), (steps, 1))
    model.fit(ids, np.zeros((len(ids), 8, 1), "float32"), batch_size=20, shuffle=False, verbose=0)
    return iso.isoscore(numpy(table.embeddings))


@pytest.mark.slow
@pytest.mark.parametrize("lam", [1.0, -1.0])
@pytest.mark.parametrize("train", [trained_cloud, trained_network])
def test_the_true_score_follows_lambda_as_with_the_papers_form(train: Any, lam: float) -> None:
    paper = train(IStarRegularizer(lam, 0.0), 300)
    score = train(IStarRegularizer(lam, estimator="anchored"), 300)
    assert lam * (score - paper) >= -0.1


@pytest.mark.slow
def test_without_the_trust_test_a_constant_covariance_is_cheated(monkeypatch: pytest.MonkeyPatch) -> None:
    cov = covariance(start(0, 1))
    trusting = trained_cloud(IStarRegularizer(1.0, 0.2, "anchored", cov), 400)
    running = trained_cloud(IStarRegularizer(1.0, 0.2, "anchored"), 400)
    monkeypatch.setattr(trust, "FARTHEST", 1e9)
    cheated = trained_cloud(IStarRegularizer(1.0, 0.2, "anchored", cov), 400)
    assert min(trusting, running) > cheated + 0.2
