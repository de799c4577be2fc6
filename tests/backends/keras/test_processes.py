"""What needs a process of its own: an export, the documents' example, two devices."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

pytest.importorskip("keras")
import keras
from support_keras import CLOSE, penalised

from isoscore_star.backends.keras import IStarActivityRegularizer, IStarCallback, IStarRegularizer

FRAMEWORK = keras.backend.backend()

pytestmark = [
    # NumPy's complaint about how torch, inside Keras, copies a tensor.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.mark.skipif(FRAMEWORK == "torch", reason="needs more packages")
@pytest.mark.filterwarnings("ignore")  # TensorFlow's own, of every version another
def test_an_export_has_the_predictions(points: np.ndarray, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    model = penalised(IStarRegularizer(1.0, 0.0))
    model.layers[-1].kernel.assign(np.ones((4, 1)))
    model.export(tmp_path / "model", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "model"))
    assert np.allclose(exported.serve(points), model.predict(points, verbose=0), rtol=0, atol=CLOSE)


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


@pytest.mark.slow
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
        # The second and third, whose loss is zero, assign to their weights in every call.
        layers = [states, IStarRegularizer(2.0, 0.0), IStarRegularizer(0.0, 0.5, running_average=0.9)]
        layers += [IStarRegularizer(0.0, estimator="anchored"), silent]
        model = keras.Sequential([keras.Input((6,)), *layers])
        model.compile(keras.optimizers.SGD(0.5), "mse", metrics=list(metrics))
    zeros, callbacks = points[:, :1] * 0, [IStarCallback()]
    history = model.fit(points, zeros, batch_size=32, shuffle=False, verbose=0, callbacks=callbacks)
    assert np.allclose(np.asarray(layers[3].shrinkage_cov), np.asarray(layers[2].shrinkage_cov), rtol=1e-5, atol=1e-5)
    assert np.isfinite(layers[3].mean_score()) and layers[3].trusted
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


@pytest.mark.slow
@pytest.mark.skipif(FRAMEWORK == "torch", reason="Keras has no distribution on torch")
def test_two_devices() -> None:
    """Replicas of TensorFlow take the score of their own part, JAX that of the global batch."""
    code = TWO_DEVICES + (MIRRORED if FRAMEWORK == "tensorflow" else PARALLEL)
    if FRAMEWORK == "tensorflow":
        pytest.importorskip("autograd")
    assert "done" in run("-c", code, XLA_FLAGS="--xla_force_host_platform_device_count=2")


LOADED = """
import sys, keras, numpy as np, isoscore_star.backends.keras
model = keras.models.load_model(sys.argv[1])
print(*np.asarray(model.predict(np.load(sys.argv[2]), verbose=0)["score"]).ravel()[:1])
"""


@pytest.mark.slow
def test_a_saved_model_is_loaded_by_another_process(points: np.ndarray, tmp_path: Path) -> None:
    inputs = keras.Input((6,))
    states = keras.layers.Dense(4, activity_regularizer=IStarActivityRegularizer(0.1, estimator="unbiased"))(inputs)
    states = IStarRegularizer(0.1, 0.0)(states)
    outputs = {"states": states, "score": keras.ops.reshape(iso.isoscore(states), (1, 1)) + 0 * states[:, :1]}
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "points.npy", points)
    printed = run("-c", LOADED, str(tmp_path / "model.keras"), str(tmp_path / "points.npy"))
    expected = iso.isoscore(np.asarray(model.predict(points, verbose=0)["states"])[:32])
    assert float(printed.split()[-1]) == pytest.approx(expected, abs=CLOSE)
