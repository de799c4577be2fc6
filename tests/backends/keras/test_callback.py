"""`IStarCallback`: what it logs, when it refreshes Σ_S, and from which data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

pytest.importorskip("keras")
import keras
from support_keras import CLOSE, numpy, penalised, states_of, task_and_states, zeros

from isoscore_star.backends.keras import IStarCallback, IStarRegularizer

FRAMEWORK = keras.backend.backend()

pytestmark = [
    # NumPy's complaint about how torch, inside Keras, copies a tensor.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


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


def test_bad_callbacks(points: np.ndarray) -> None:
    for every in (0, -1, "step", 1.5, True):
        with pytest.raises(iso.InvalidValueError, match='every: expected "epoch" or a positive number of steps'):
            IStarCallback(every=every)
    with pytest.raises(iso.InvalidTypeError, match="layer: expected IStarRegularizer, or several; got Dense"):
        IStarCallback(layer=keras.layers.Dense(3))
    with pytest.raises(iso.InvalidValueError, match="has no IStarRegularizer"):
        penalised().fit(points, zeros(points), verbose=0, callbacks=[IStarCallback()])
