"""I-STAR in `fit`: every number that Keras reports is the task's loss plus λ·(1 − score), taken by NumPy by hand."""

from __future__ import annotations

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

pytest.importorskip("keras")
import keras

from isoscore_star.backends.keras import IStarActivityRegularizer, IStarCallback, IStarRegularizer
from isoscore_star.backends.keras.modules import regularizer as regularizer_module

FRAMEWORK = keras.backend.backend()
BACKEND = iso.get_backend("keras")

pytestmark = [
    # NumPy's complaint about how torch, inside Keras, copies a tensor.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

# Float32 through a dense layer and the loss: some hundred ε.
CLOSE = 2e-5


def numpy(x: Any) -> np.ndarray:
    return BACKEND.to_numpy(x).astype(np.float64)


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=(48, 6)) @ rng.normal(size=(6, 6))).astype("float32")


def penalised(*regularizers: Any, kernel: Any = "glorot_uniform", **compiled: Any) -> Any:
    """Give a model whose task loss, and its gradient for the states, are zero: what is left is the penalty."""
    states = keras.layers.Dense(4, use_bias=False, kernel_initializer=kernel, name="states")
    silent = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)
    model = keras.Sequential([keras.Input((6,)), states, *regularizers, silent])
    model.compile(keras.optimizers.SGD(0.5), "mse", **compiled)
    return model


def zeros(points: np.ndarray) -> np.ndarray:
    return np.zeros((len(points), 1), "float32")


def states_of(model: Any, points: np.ndarray) -> np.ndarray:
    return points.astype(np.float64) @ numpy(model.get_layer("states").kernel)


def step_on(kernel: np.ndarray, points: np.ndarray, lam: float, cov: np.ndarray | None, zeta: float) -> np.ndarray:
    """Descend λ·(1 − score) of points·kernel once, by the closed form of the score's gradient, in float64."""
    states = points.astype(np.float64) @ kernel
    m, d = states.shape
    centred = states - states.mean(axis=0)
    sigma = (1 - zeta) * centred.T @ centred / (m - 1) + (0 if cov is None else zeta * cov)
    r = np.trace(sigma) / np.sum(sigma**2)
    gradient = 4 * (1 - zeta) / ((m - 1) * (d - 1)) * (r * centred - r**2 * centred @ sigma)
    return kernel + 0.5 * lam * points.T.astype(np.float64) @ gradient


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


def task_and_states(batches: list[np.ndarray], model: Any, lam: float, cov: Any = None, zeta: float = 0.0) -> float:
    """Mean over batches, weighted by their rows as Keras does, of λ·(1 − score)."""
    rows = [len(batch) for batch in batches]
    return float(
        np.average(
            [lam * (1 - reference.isoscore_star(states_of(model, batch), cov, zeta)) for batch in batches],
            weights=rows,
        )
    )


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


def test_the_callback_logs_what_the_batches_scored(points: np.ndarray, tmp_path: Path) -> None:
    regularizer = IStarRegularizer(1.5, 0.0, in_evaluation=True, name="first")
    model = penalised(regularizer, IStarRegularizer(0.0, 0.0, name="second"))
    model.optimizer.learning_rate = 0.0
    kept: list[dict[str, float]] = []
    history = model.fit(
        points[:40],
        zeros(points[:40]),
        batch_size=16,
        shuffle=False,
        epochs=2,
        verbose=0,
        validation_data=(points[40:], zeros(points[40:])),
        callbacks=[
            IStarCallback(per_layer=True),
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: kept.append(dict(logs))),
        ],
    ).history
    score = 1 - task_and_states([points[:16], points[16:32], points[32:40]], model, 1.0)
    evaluated = 1 - task_and_states([points[40:]], model, 1.0)
    expected = {
        "isoscore_star": score,
        "isoscore_star/first": score,
        "isoscore_star/second": score,
        "loss": 1.5 * (1 - score),
        "val_isoscore_star": evaluated,
        "val_isoscore_star/first": evaluated,
        "val_loss": 1.5 * (1 - evaluated),
    }
    assert {name: values[1] for name, values in history.items()} == pytest.approx(expected, abs=CLOSE)
    assert kept[1] == pytest.approx(expected, abs=CLOSE)  # any callback after it has them
    names, _, last = (line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines())
    assert float(last[names.index("isoscore_star/first")]) == pytest.approx(score, abs=CLOSE)


def test_a_metric_of_that_name_keeps_it(points: np.ndarray) -> None:
    model = penalised(IStarRegularizer(1.0, 0.0), metrics=[keras.metrics.MeanSquaredError(name="isoscore_star")])
    history = model.fit(points, zeros(points) + 3, verbose=0, callbacks=[IStarCallback()]).history
    assert history["isoscore_star"] == [9.0]


def as_arrays(points: np.ndarray) -> Any:
    return points


def as_py_dataset(points: np.ndarray) -> Any:
    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            part = points[12 * index : 12 * index + 12]
            return part, zeros(part)

    return Batches()


def as_tf_dataset(points: np.ndarray) -> Any:
    return pytest.importorskip("tensorflow").data.Dataset.from_tensor_slices((points, zeros(points))).batch(10)


def as_data_loader(points: np.ndarray) -> Any:
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    return data.DataLoader(data.TensorDataset(torch.from_numpy(points), torch.from_numpy(zeros(points))), batch_size=20)


@pytest.mark.parametrize("form", [as_arrays, as_py_dataset, as_tf_dataset, as_data_loader])
def test_the_callback_takes_what_predict_takes(points: np.ndarray, form: Callable[[np.ndarray], Any]) -> None:
    regularizer = IStarRegularizer(1.0, 0.5)
    dropout = keras.layers.Dropout(0.5)  # which evaluation leaves out
    model = penalised(dropout, regularizer)
    model.optimizer.learning_rate = 0.0
    callback = IStarCallback(form(points))
    model.fit(points, zeros(points), verbose=0, callbacks=[callback])
    cov = np.cov(states_of(model, points).T)
    assert np.allclose(numpy(regularizer.shrinkage_cov), cov, rtol=0, atol=CLOSE * cov.max())
    assert callback.moments[regularizer.name].count == 48


@pytest.mark.parametrize(("every", "expected"), [("epoch", [0, 3]), (2, [0, 2, 4]), (5, [0, 5]), (100, [0])])
def test_when_the_callback_refreshes(points: np.ndarray, every: Any, expected: list[int]) -> None:
    regularizer = IStarRegularizer(1.0, 0.5)
    model = penalised(regularizer)
    steps, refreshed = [], []

    class Watched(IStarCallback):
        def refresh(self) -> None:
            super().refresh()
            refreshed.append(len(steps))
            cov = np.cov(states_of(self.model, points).T)
            assert np.allclose(numpy(regularizer.shrinkage_cov), cov, rtol=0, atol=CLOSE * cov.max())

    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: steps.append(1))
    model.fit(
        points, zeros(points), batch_size=16, epochs=2, verbose=0, callbacks=[Watched(points, every=every), count]
    )
    assert refreshed == expected


def test_the_callback_reads_some_batches_and_only_some_layers(points: np.ndarray) -> None:
    first, second = IStarRegularizer(1.0, 0.5), IStarRegularizer(1.0, 0.5, shrinkage_cov=np.eye(4))
    model = penalised(first, second)
    model.optimizer.learning_rate = 0.0
    callback = IStarCallback(points, layer=first, batch_size=8, steps=3)
    model.fit(points, zeros(points), verbose=0, callbacks=[callback])
    cov = np.cov(states_of(model, points[:24]).T)
    assert np.allclose(numpy(first.shrinkage_cov), cov, rtol=0, atol=CLOSE * cov.max())
    assert np.array_equal(numpy(second.shrinkage_cov), np.eye(4))
    assert first.observer is None


def test_the_callback_leaves_out_what_a_mask_does(rng: np.random.Generator) -> None:
    tokens = rng.integers(0, 9, size=(32, 7)).astype("int32")
    embedding, regularizer = keras.layers.Embedding(9, 4, mask_zero=True), IStarRegularizer(0.0, 0.5)
    model = keras.Sequential(
        [keras.Input((7,), dtype="int32"), embedding, regularizer, keras.layers.GlobalAveragePooling1D()]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(tokens, np.zeros((32, 4)), verbose=0, callbacks=[IStarCallback(tokens)])
    cov = np.cov(numpy(embedding.embeddings)[tokens[tokens > 0]].T)
    assert np.allclose(numpy(regularizer.shrinkage_cov), cov, rtol=0, atol=CLOSE * cov.max())


def test_the_callback_tells_layers_of_one_name_apart(points: np.ndarray) -> None:
    branches, inputs = [], keras.Input((6,), name="x")
    for _ in range(2):
        inner = keras.Input((6,))
        states = keras.layers.Dense(4, use_bias=False)(inner)
        branches.append(keras.Model(inner, IStarRegularizer(1.0, 0.5, name="same")(states)))
    model = keras.Model({"x": inputs}, [keras.layers.Add()([branch(inputs) for branch in branches])])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = IStarCallback({"x": points}, per_layer=True)
    history = model.fit({"x": points}, np.zeros((48, 4)), verbose=0, callbacks=[callback]).history
    for i, branch in enumerate(branches):
        cov = np.cov((points @ numpy(branch.layers[1].kernel)).T)
        assert np.allclose(numpy(branch.layers[2].shrinkage_cov), cov, rtol=0, atol=CLOSE * cov.max())
        assert f"isoscore_star/same_{i}" in history


@pytest.mark.skipif(FRAMEWORK == "torch", reason="needs more packages")
@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, of every version another
def test_an_export_has_the_predictions(points: np.ndarray, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    model = penalised(IStarRegularizer(1.0, 0.0))
    model.layers[-1].kernel.assign(np.ones((4, 1)))
    model.export(tmp_path / "model", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "model"))
    assert np.allclose(exported.serve(points), model.predict(points, verbose=0), rtol=0, atol=CLOSE)


def test_bad_callbacks(points: np.ndarray) -> None:
    for every in (0, -1, "step", 1.5, True):
        with pytest.raises(iso.InvalidValueError, match='every: expected "epoch" or a positive number of steps'):
            IStarCallback(every=every)
    with pytest.raises(iso.InvalidTypeError, match="layer: expected IStarRegularizer, or several; got Dense"):
        IStarCallback(layer=keras.layers.Dense(3))
    with pytest.raises(iso.InvalidValueError, match="has no IStarRegularizer"):
        penalised().fit(points, zeros(points), verbose=0, callbacks=[IStarCallback()])


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


def test_the_readme_example() -> None:
    x = np.random.default_rng(0).normal(size=(256, 20)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    keras.utils.set_random_seed(0)

    model = keras.Sequential([
        keras.layers.Dense(32, activation="relu"),
        IStarRegularizer(lam=1.0, zeta=0.2),  # adds λ·(1 − IsoScore*) of what passes through
        keras.layers.Dense(2, activation="softmax"),
    ])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    history = model.fit(x, y, epochs=10, verbose=0, callbacks=[IStarCallback(x)])  # Σ_S anew at every epoch

    assert history.history["isoscore_star"][-1] > history.history["isoscore_star"][0] + 0.01


def run(*command: str, **environment: str) -> str:
    # One thread: threads that wait for each other by spinning are slow where others work, too.
    environment = {**os.environ, "KERAS_BACKEND": FRAMEWORK, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_raises_and_lowers_isotropy() -> None:
    pytest.importorskip("sklearn")
    printed = run(str(ROOT / "examples" / "keras_classifier.py"), "--quick")
    rows = re.findall(r"^ *(-?\d+) \| +([\d.]+)% \| +([\d.]+)$", printed, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "0", "-1"]
    assert min(float(row[1]) for row in rows) > 70  # five epochs; ten digits
    scores = [float(row[2]) for row in rows]
    assert scores[0] > 1.5 * scores[1] > 1.5 * scores[2] > 0


TWO_DEVICES = """
import numpy as np, keras, isoscore_star as iso
from isoscore_star.backends.keras import IStarCallback, IStarRegularizer, IsoScoreStar

def trained(points, kernel, scope, *metrics):
    with scope:
        states = keras.layers.Dense(4, use_bias=False, kernel_initializer=keras.initializers.Constant(kernel))
        silent = keras.layers.Dense(1, kernel_initializer="zeros", trainable=False)
        # The second, whose loss is zero, assigns to its weights in every call.
        layers = [states, IStarRegularizer(2.0, 0.0), IStarRegularizer(0.0, 0.5, running_average=0.9), silent]
        model = keras.Sequential([keras.Input((6,)), *layers])
        model.compile(keras.optimizers.SGD(0.5), "mse", metrics=list(metrics))
    zeros, callbacks = points[:, :1] * 0, [IStarCallback()]
    history = model.fit(points, zeros, batch_size=32, shuffle=False, verbose=0, callbacks=callbacks)
    return history.history["loss"][0], np.asarray(states.kernel), np.asarray(layers[2].shrinkage_cov)

rng = np.random.default_rng(0)
points, kernel = (rng.normal(size=(32, 6)) @ rng.normal(size=(6, 6))).astype("float32"), rng.normal(size=(6, 4))
"""

MIRRORED = """
import autograd
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
loss, moved, cov = trained(points, kernel, strategy.scope())
halves = [half @ kernel for half in np.split(points, 2)]
assert abs(loss - np.mean([2 * (1 - iso.isoscore(half)) for half in halves])) < 1e-5
assert np.allclose(cov, np.mean([np.cov(half.T) for half in halves], axis=0), rtol=1e-5, atol=1e-5)

def gradient(half):
    return autograd.grad(lambda h: iso.istar_loss(h, None, 0.0, 2.0))(half)

expected = kernel - 0.5 * np.mean([x.T @ gradient(x @ kernel) for x in np.split(points.astype(float), 2)], axis=0)
assert np.allclose(moved, expected, rtol=0, atol=1e-5)
try:
    trained(points, kernel, strategy.scope(), IsoScoreStar(1 + 1))
except iso.InvalidValueError as error:
    assert "Measure outside of the strategy" in str(error)
    print("done")
"""

PARALLEL = """
import contextlib
keras.distribution.set_distribution(keras.distribution.DataParallel())
import jax
assert jax.device_count() == 2
loss, _, cov = trained(points, kernel, contextlib.nullcontext())
states = points @ kernel
assert abs(loss - 2 * (1 - iso.isoscore(states))) < 1e-5
assert np.allclose(cov, np.cov(states.T), rtol=1e-5, atol=1e-5)
print("done")
"""


@pytest.mark.skipif(FRAMEWORK == "torch", reason="Keras has no distribution on torch")
def test_two_devices() -> None:
    """Replicas of TensorFlow take the score of their own part, JAX that of the global batch."""
    code = TWO_DEVICES + (MIRRORED if FRAMEWORK == "tensorflow" else PARALLEL)
    if FRAMEWORK == "tensorflow":
        pytest.importorskip("autograd")
    assert "done" in run("-c", code, XLA_FLAGS="--xla_force_host_platform_device_count=2")
