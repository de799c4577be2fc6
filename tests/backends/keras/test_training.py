"""I-STAR in `fit`: every number that Keras reports is the task's loss plus λ·(1 − score), taken by NumPy by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference

pytest.importorskip("keras")
import keras
from support_keras import CLOSE, numpy, penalised, states_of, step_on, task_and_states, zeros

from isoscore_star.backends.keras import IStarActivityRegularizer, IStarCallback, IStarRegularizer
from isoscore_star.backends.keras.modules import regularizer as regularizer_module

FRAMEWORK = keras.backend.backend()

pytestmark = [
    # NumPy's complaint about how torch, inside Keras, copies a tensor.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.mark.parametrize("rows", [16, 48])
@pytest.mark.parametrize("kind", ["layer", "activity"])
@pytest.mark.parametrize("lam", [2.0, -1.0])
def test_lam_means_the_same_whatever_the_batch_size_and_the_way(
    points: np.ndarray, rng: np.random.Generator, rows: int, kind: str, lam: float
) -> None:
    batch, cov = points[:rows], random_cov(rng, 4)
    if kind == "layer":
        model = penalised(IStarRegularizer(lam, 0.3, shrinkage_cov=cov))
    else:
        model = penalised()
        model.get_layer("states").activity_regularizer = IStarActivityRegularizer(lam, 0.3, shrinkage_cov=cov)
    kernel = numpy(model.get_layer("states").kernel)
    expected = lam * (1 - reference.isoscore_star(batch @ kernel, cov, 0.3))
    history = model.fit(batch, zeros(batch), batch_size=rows, verbose=0).history
    assert history["loss"] == pytest.approx([expected], abs=CLOSE)
    moved = step_on(kernel, batch, lam, cov, 0.3)
    assert np.abs(moved - kernel).max() > 0.01
    assert np.allclose(numpy(model.get_layer("states").kernel), moved, rtol=0, atol=CLOSE)


def test_evaluation_is_the_task_alone_unless_told(points: np.ndarray) -> None:
    targets = points[:, :1]
    inputs = keras.Input((6,))
    states = keras.layers.Dense(4, use_bias=False, name="states")(inputs)
    for in_evaluation in (False, True):
        passed = IStarRegularizer(1.5, 0.0, in_evaluation=in_evaluation)(states)
        model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="task")(passed))
        model.compile("sgd", "mse")
        task = np.mean((states_of(model, points) @ numpy(model.get_layer("task").kernel) - targets) ** 2)
        penalty = task_and_states([points[:16], points[16:32], points[32:]], model, 1.5) if in_evaluation else 0.0
        got = model.evaluate(points, targets, batch_size=16, verbose=0)
        assert got == pytest.approx(task + penalty, rel=CLOSE)


def subclassed(regularizer: Any) -> Any:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.states = keras.layers.Dense(4, use_bias=False, name="states")
            self.regularizer = regularizer
            self.out = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:  # without training: Keras passes none on
            return self.out(self.regularizer(self.states(x)))

    return Subclassed()


def nested(regularizer: Any) -> Any:
    inner = keras.Sequential([keras.layers.Dense(4, use_bias=False, name="states"), regularizer])
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)(inner(inputs)))


@pytest.mark.parametrize("make", [subclassed, nested])
def test_subclassed_and_nested_models(points: np.ndarray, make: Callable[[Any], Any]) -> None:
    model = make(IStarRegularizer(1.5, 0.2))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = IStarCallback(points)
    history = model.fit(points, zeros(points), batch_size=16, shuffle=False, verbose=0, callbacks=[callback]).history
    (layer,) = [x for x in model._flatten_layers() if x.name == "states"]
    states = points @ numpy(layer.kernel)
    cov = np.cov(states.T)
    expected = np.mean([1.5 * (1 - reference.isoscore_star(part, cov, 0.2)) for part in np.split(states, 3)])
    assert history["loss"] == pytest.approx([expected], abs=CLOSE)


@pytest.mark.parametrize(
    "compiled",
    [
        {"jit_compile": False},
        # torch takes half a minute to compile a step of Keras, and its compiler is not what is tested here.
        pytest.param({"jit_compile": True}, marks=pytest.mark.skipif(FRAMEWORK == "torch", reason="takes minutes")),
        {"run_eagerly": True},
        pytest.param({"steps_per_execution": 2}, marks=pytest.mark.skipif(FRAMEWORK == "torch", reason="has none")),
    ],
    ids=str,
)
def test_ways_to_compile(points: np.ndarray, rng: np.random.Generator, compiled: dict[str, Any]) -> None:
    cov, kernel = random_cov(rng, 4), rng.normal(size=(6, 4))
    start = keras.initializers.Constant(kernel)
    model = penalised(IStarRegularizer(1.0, 0.3, shrinkage_cov=cov), kernel=start, **compiled)
    model.fit(points, zeros(points), batch_size=16, shuffle=False, epochs=2, verbose=0)
    for part in [points[:16], points[16:32], points[32:]] * 2:
        kernel = step_on(kernel, part, 1.0, cov, 0.3)
    assert np.allclose(numpy(model.get_layer("states").kernel), kernel, rtol=0, atol=10 * CLOSE)


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
@pytest.mark.parametrize("rows", [33, 48])
def test_a_last_batch_of_one_row_gives_no_nan(points: np.ndarray, estimator: str, rows: int) -> None:
    model = penalised(IStarRegularizer(1.0, 0.3, estimator, running_average=0.9))
    history = model.fit(points[:rows], zeros(points[:rows]), batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(numpy(model.get_layer("states").kernel)).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(points: np.ndarray, policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = penalised(IStarRegularizer(1.0, 0.3, shrinkage_cov=np.eye(4)))
        states = model.layers[0](points)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(states.dtype) == policy.removeprefix("mixed_")
    expected = 1 - reference.isoscore_star(numpy(states), np.eye(4), 0.3)
    history = model.fit(points, zeros(points), batch_size=48, epochs=3, verbose=0).history
    assert history["loss"][0] == pytest.approx(expected, abs=1e-3)
    assert history["loss"][2] < history["loss"][0]


def custom_model(inputs: Any, outputs: Any) -> Any:
    """Give a model with a `train_step` of its own, as Keras' guides write one for each framework."""

    class Custom(keras.Model):
        if FRAMEWORK == "tensorflow":

            def train_step(self, data: Any) -> Any:
                import tensorflow as tf

                x, y = data
                with tf.GradientTape() as tape:
                    loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
                gradients = tape.gradient(loss, self.trainable_variables)
                self.optimizer.apply(gradients, self.trainable_variables)
                return {"total": loss}

        elif FRAMEWORK == "torch":

            def train_step(self, data: Any) -> Any:
                import torch

                x, y = data
                self.zero_grad()
                loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
                loss.backward()
                with torch.no_grad():
                    gradients = [v.value.grad for v in self.trainable_weights]
                    self.optimizer.apply(gradients, self.trainable_weights)
                return {"total": loss}

        else:

            def train_step(self, state: Any, data: Any) -> Any:
                import jax

                trainable, non_trainable, optimizer, metrics = state
                x, y = data

                def total(trainable: Any, non_trainable: Any) -> Any:
                    y_pred, updated, losses = self.stateless_call(
                        trainable, non_trainable, x, training=True, return_losses=True
                    )
                    return self.compute_loss(x=x, y=y, y_pred=y_pred) + sum(losses), updated

                (loss, updated), gradients = jax.value_and_grad(total, has_aux=True)(trainable, non_trainable)
                trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
                return {"total": loss}, (trainable, updated, optimizer, metrics)

    return Custom(inputs, outputs)


def test_a_train_step_of_ones_own(points: np.ndarray) -> None:
    plain = penalised(IStarRegularizer(1.5, 0.0))
    model = custom_model(plain.inputs, plain.outputs)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    kernel = numpy(model.get_layer("states").kernel)
    expected = 1.5 * (1 - reference.isoscore_star(points @ kernel))
    history = model.fit(points, zeros(points), batch_size=48, verbose=0).history
    assert history["total"] == pytest.approx([expected], abs=CLOSE)
    moved = step_on(kernel, points, 1.5, None, 0.0)
    assert np.allclose(numpy(model.get_layer("states").kernel), moved, rtol=0, atol=CLOSE)


def test_the_mask_of_an_embedding_counts(rng: np.random.Generator) -> None:
    tokens = rng.integers(0, 9, size=(32, 7)).astype("int32")  # 0 is padding
    inputs = keras.Input((7,), dtype="int32")
    embedding = keras.layers.Embedding(9, 4, mask_zero=True)
    states = keras.layers.Dense(4, use_bias=False, name="states")(embedding(inputs))
    passed = IStarRegularizer(2.0, 0.0)([embedding.output, states])
    pooled = keras.layers.GlobalAveragePooling1D()(passed[1])
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)(pooled))
    assert passed[1]._keras_mask is not None
    model.compile(keras.optimizers.SGD(0.0), "mse")
    table = numpy(embedding.embeddings)[tokens[tokens > 0]]
    union = np.concatenate([table, table @ numpy(model.get_layer("states").kernel)])
    history = model.fit(tokens, zeros(tokens), batch_size=32, verbose=0).history
    assert history["loss"] == pytest.approx([2 * (1 - reference.isoscore_star(union))], abs=CLOSE)


def test_schedules_of_lam_and_zeta_compile_nothing_anew(
    points: np.ndarray, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        traces.append(1)
        return iso.istar_loss(*args, **kwargs)

    monkeypatch.setattr(regularizer_module, "istar_loss", counted)
    cov = random_cov(rng, 4)
    regularizer = IStarRegularizer(1.0, 0.1, shrinkage_cov=cov)
    model = penalised(regularizer)
    model.optimizer.learning_rate = 0.0
    schedule = {0: (1.0, 0.1), 1: (-2.0, 0.5), 2: (0.0, 0.5), 3: (3.0, 1.0)}

    def begin(epoch: int, logs: Any = None) -> None:
        regularizer.lam.assign(schedule[epoch][0])
        regularizer.zeta.assign(schedule[epoch][1])

    counts = []
    history = model.fit(
        points,
        zeros(points),
        batch_size=16,
        epochs=4,
        verbose=0,
        shuffle=False,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=lambda *_: counts.append(len(traces)))
        ],
    ).history
    batches = [points[:16], points[16:32], points[32:]]
    expected = [task_and_states(batches, model, lam, cov, zeta) for lam, zeta in schedule.values()]
    assert history["loss"] == pytest.approx(expected, abs=CLOSE)
    if FRAMEWORK == "torch":  # which runs Python at every step, so the count shows that it counts
        assert counts == [3, 6, 9, 12]
    else:
        assert counts == [1, 1, 1, 1]


def test_a_model_is_saved_with_its_cov(points: np.ndarray, rng: np.random.Generator, tmp_path: Path) -> None:
    cov = random_cov(rng, 4)
    model = penalised(IStarRegularizer(1.0, 0.3, shrinkage_cov=cov, in_evaluation=True))
    model.get_layer("states").activity_regularizer = IStarActivityRegularizer(0.5, 0.3, shrinkage_cov=np.eye(4))
    model.layers[1].lam.assign(2.0)
    expected = task_and_states([points], model, 2.0, cov, 0.3) + task_and_states([points], model, 0.5, np.eye(4), 0.3)
    assert model.evaluate(points, zeros(points), batch_size=48, verbose=0) == pytest.approx(expected, abs=CLOSE)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(points, zeros(points), batch_size=48, verbose=0) == pytest.approx(expected, abs=CLOSE)
    assert np.array_equal(numpy(loaded.layers[1].shrinkage_cov), numpy(model.layers[1].shrinkage_cov))
    assert np.allclose(numpy(loaded.layers[1].shrinkage_cov), cov, rtol=1e-6)
    loaded.fit(points, zeros(points), verbose=0)  # its Σ_S came with the weights

    model.save_weights(tmp_path / "it.weights.h5")
    later = penalised(IStarRegularizer(1.0, 0.3))
    later.load_weights(tmp_path / "it.weights.h5")
    later.fit(points, zeros(points), verbose=0)
    untrained = penalised(IStarRegularizer(1.0, 0.3))
    untrained.save(tmp_path / "untrained.keras")
    with pytest.raises(iso.InvalidValueError, match="was given none"):
        keras.models.load_model(tmp_path / "untrained.keras").fit(points, zeros(points), verbose=0)


def test_under_float64(points: np.ndarray, rng: np.random.Generator) -> None:
    cov = random_cov(rng, 4)
    keras.config.set_dtype_policy("float64")
    try:
        model = penalised(IStarRegularizer(1.0, 0.3, shrinkage_cov=cov), IStarRegularizer(-0.5, estimator="unbiased"))
    finally:
        keras.config.set_dtype_policy("float32")
    points = points.astype("float64")
    states = numpy(model.get_layer("states")(points))
    model(points, training=True)
    expected = [1 - reference.isoscore_star(states, cov, 0.3), -0.5 * (1 - iso.isoscore_unbiased(states))]
    # On torch, Keras' own product makes float32 of float64.
    tolerance = 1e-6 if FRAMEWORK == "torch" else 1e-12
    assert [float(numpy(loss)) for loss in model.losses] == pytest.approx(expected, abs=tolerance)
    assert {str(w.dtype) for w in model.layers[1].weights} == {"float64"}


# The callback


def test_training_towards_and_away_from_isotropy(points: np.ndarray) -> None:
    scores = {}
    for lam in (1.0, -1.0):
        keras.utils.set_random_seed(0)
        model = penalised(IStarRegularizer(lam, 0.2))
        model.optimizer.learning_rate = 5.0
        model.fit(points, zeros(points), epochs=12, verbose=0, callbacks=[IStarCallback(points)])
        scores[lam] = iso.isoscore(states_of(model, points))
    assert scores[1.0] > 0.7
    assert scores[-1.0] < 0.1
