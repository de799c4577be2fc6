"""Functional models of Keras 2 (tf_keras): a score of a placeholder is a layer that trains, saves and loads."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

DIM, ZETA = 6, 0.3
RNG = np.random.default_rng(11)
COV = random_cov(RNG, DIM)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = RNG.normal(size=(40, 1)).astype(np.float32)


def model_with(*penalties: Any, dtype: str = "float32") -> Any:
    """Give a model whose penalties are functions of its hidden states."""
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((5,), dtype=dtype)
    states = tf_keras.layers.Dense(DIM, activation="tanh", name="states", dtype=dtype)(inputs)
    outputs = tf_keras.layers.Dense(1, name="head", dtype=dtype)(states)
    model = tf_keras.Model(inputs, outputs)
    for penalty in penalties:
        model.add_loss(penalty(states))
    return model


def states_of(model: Any, x: np.ndarray = X) -> np.ndarray:
    weights, bias = model.get_layer("states").get_weights()
    return np.tanh(x.astype(np.float64) @ weights + bias)


def task_loss(model: Any, x: np.ndarray = X, y: np.ndarray = Y) -> float:
    weights, bias = model.get_layer("head").get_weights()
    return float(np.mean((states_of(model, x) @ weights + bias - y) ** 2))


def evaluate(model: Any) -> float:
    model.compile("sgd", "mse")
    return model.evaluate(X, Y, batch_size=len(X), verbose=0)


def save(model: Any, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf_keras' own advice against two of its three formats
        model.save(str(path))
        return tf_keras.models.load_model(str(path))


@pytest.mark.sampled
@pytest.mark.parametrize("lam", [2.0, -1.0])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_reports_task_plus_penalty_of_each_batch(lam: float, jit_compile: bool) -> None:
    model = model_with(lambda h: iso.istar_loss(h, COV, ZETA, lam))
    expected = []
    for batch in (slice(0, 16), slice(16, 32), slice(32, 40)):  # the last one is shorter
        penalty = lam * (1 - reference.isoscore_star(states_of(model, X[batch]), COV, ZETA))
        expected.append((task_loss(model, X[batch], Y[batch]) + penalty) * len(X[batch]))
    model.compile(tf_keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)  # weights stay as they are
    history = model.fit(X, Y, batch_size=16, shuffle=False, verbose=0).history
    # tanh and the products are in float32.
    assert history["loss"][0] == pytest.approx(sum(expected) / len(X), abs=2e-6)


@pytest.mark.slow
def test_training_moves_the_score_either_way() -> None:
    scores = {}
    for lam in (0.0, 1.0, -1.0):
        model = model_with(lambda h, w=lam: iso.istar_loss(h, zeta=0.0, lam=w))
        before = iso.isoscore(states_of(model))
        model.compile(tf_keras.optimizers.Adam(0.02), "mse")
        model.fit(X, Y, epochs=15, batch_size=20, verbose=0)
        scores[lam] = iso.isoscore(states_of(model))
    assert scores[-1.0] < min(before, scores[0.0]) - 0.1
    assert scores[1.0] > max(before, scores[0.0]) + 0.1


PENALTIES = {
    "shrinkage": lambda h: iso.istar_loss(h, COV, ZETA, 2.0),
    "a tensor as shrinkage_cov": lambda h: iso.istar_loss(
        h, tf.constant(COV), zeta=tf.constant(ZETA), lam=np.float32(2)
    ),
    "unbiased": lambda h: iso.istar_loss(h, estimator="unbiased"),
    "anchored": lambda h: iso.istar_loss(h, COV, estimator="anchored"),
    "labels": lambda h: iso.istar_loss(h, estimator="unbiased", groups=np.arange(40) // 5 * 2),
    "labels of a union": lambda h: iso.istar_loss([h, h], estimator="unbiased", groups=np.repeat(list("abcd"), 10)),
    "none": lambda h: iso.isoscore_unbiased(h, groups=None),
    "union": lambda h: iso.istar_loss([h, 2 * h], zeta=0.0),
    "arithmetic": lambda h: 3 * (1 - iso.isoscore_star(h, shrinkage_cov=COV, zeta=0.5)) + iso.isoscore(h),
}


# One model has all but the first, since making, saving and loading one takes longer than its penalties.
@pytest.mark.sampled
@pytest.mark.parametrize("ending", [".keras", ".h5", ""], ids=["keras", "h5", "SavedModel"])
@pytest.mark.parametrize("names", [["shrinkage"], [*PENALTIES][1:]], ids=["shrinkage", "all others"])
def test_save_and_load(tmp_path: Path, names: list[str], ending: str) -> None:
    model = model_with(*(PENALTIES[name] for name in names))
    values = [float(PENALTIES[name](tf.constant(states_of(model)))) for name in names]

    def right(model: Any) -> bool:
        assert evaluate(model) == pytest.approx(task_loss(model) + sum(values), abs=2e-6 * len(names))
        model(tf.constant(X))
        # In no certain order: a SavedModel has its layers in that of their names.
        return np.sort([float(loss) for loss in model.losses]) == pytest.approx(np.sort(values), abs=2e-6)

    assert right(model)
    loaded = save(model, tmp_path / f"model{ending}")
    assert len(loaded.losses) == len(names)
    assert len(loaded.trainable_weights) == 4
    assert right(loaded)
    loaded.fit(X, Y, batch_size=len(X), verbose=0)  # one batch, as labels have one entry for each point
    assert not np.array_equal(states_of(loaded), states_of(model))


@pytest.mark.parametrize("groups", ["auto", 0, 1, None])
def test_groups_of_states_of_three_axes(tmp_path: Path, groups: Any) -> None:
    inputs, states = tf_keras.Input((4, DIM), dtype="float64"), RNG.normal(size=(6, 4, DIM))
    model = tf_keras.Model(inputs, iso.isoscore_unbiased(inputs, groups=groups))
    expected = iso.isoscore_unbiased(states, groups=groups)
    for each in (model, save(model, tmp_path / "model.keras")):
        assert float(each(states)) == pytest.approx(expected, abs=1e-12)


def test_labels_that_come_with_the_inputs(tmp_path: Path) -> None:
    inputs, labels = tf_keras.Input((4, DIM), dtype="float64"), tf_keras.Input((4,), dtype="int32")
    model = tf_keras.Model([inputs, labels], iso.isoscore_unbiased(inputs, groups=labels))
    states, numbers = RNG.normal(size=(6, 4, DIM)), RNG.permutation(6)
    expected = iso.isoscore_unbiased(states[np.argsort(numbers)])
    for each in (model, save(model, tmp_path / "model.keras")):
        found = each([states, numbers[:, None].repeat(4, 1).astype(np.int32)])
        assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_a_keras_file_loads_in_a_new_process(tmp_path: Path) -> None:
    model = model_with(PENALTIES["shrinkage"])
    path = tmp_path / "model.keras"
    save(model, path)
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    code = (
        "import numpy as np, tf_keras, isoscore_star.backends.tensorflow.tf_keras_layer\n"
        f"data = np.load({str(tmp_path / 'data.npz')!r})\n"
        f"model = tf_keras.models.load_model({str(path)!r})\n"
        "model.compile('sgd', 'mse')\n"
        "print(model.evaluate(data['x'], data['y'], batch_size=40, verbose=0))"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    assert float(printed.stdout.split()[-1]) == pytest.approx(evaluate(model), abs=1e-6)


@pytest.mark.slow
def test_a_clone_has_no_shrinkage_cov_until_it_gets_the_weights() -> None:
    model = model_with(PENALTIES["shrinkage"])
    clone = tf_keras.models.clone_model(model)
    assert np.isnan(evaluate(clone))
    clone.set_weights(model.get_weights())
    assert evaluate(clone) == pytest.approx(evaluate(model), abs=1e-6)


def scores_of(loss: Any, states: Any, inputs: Any, *given: np.ndarray) -> tuple[float, np.ndarray]:
    """Give a symbolic score's value, and the states it was taken of."""
    score, values = tf_keras.Model(inputs, [loss, states])(list(given))
    return float(score), np.asarray(values, np.float64)


def test_float64_states_are_measured_in_float64() -> None:
    inputs = tf_keras.Input((DIM,), dtype="float64")
    points = RNG.normal(size=(30, DIM))
    score, _ = scores_of(iso.isoscore_star(inputs, COV, ZETA), inputs, inputs, points)
    assert score == pytest.approx(reference.isoscore_star(points, COV, ZETA), abs=1e-12)


def test_masks_given_and_carried_by_keras() -> None:
    ids = tf_keras.Input((7,), dtype="int32")
    mask = tf_keras.Input((7,), dtype="bool")
    embedded = tf_keras.layers.Embedding(9, DIM, mask_zero=True)(ids)
    states = tf_keras.layers.Dense(DIM, name="states")(embedded)
    tokens, kept = RNG.integers(0, 3, size=(8, 7)), RNG.random((8, 7)) < 0.6
    carried, H = scores_of(iso.isoscore(states), states, [ids], tokens)
    assert carried == pytest.approx(reference.isoscore_star(H[tokens != 0]), abs=1e-5)
    given, H = scores_of(iso.isoscore(states, mask=mask), states, [ids, mask], tokens, kept)
    assert given == pytest.approx(reference.isoscore_star(H[kept]), abs=1e-5)
    union = iso.isoscore_star([states, embedded], COV, ZETA, mask=mask)
    both = tf_keras.layers.Concatenate(axis=0)([states, embedded])
    score, H = scores_of(union, both, [ids, mask], tokens, kept)
    assert score == pytest.approx(reference.isoscore_star(H[np.tile(kept, (2, 1))], COV, ZETA), abs=1e-5)


def test_a_mixed_precision_policy_leaves_the_score_in_float32() -> None:
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        inputs = tf_keras.Input((DIM,))
        states = tf_keras.layers.Dense(DIM)(inputs)
        direct, narrow = iso.isoscore_star(inputs, COV, ZETA), iso.isoscore_star(states, COV, ZETA)
        assert (states.dtype, direct.dtype, narrow.dtype) == (tf.bfloat16, tf.float32, tf.float32)
        points = (RNG.normal(size=(30, DIM)) + 100).astype(np.float32)  # bfloat16 would leave nothing of these
        value, _ = scores_of(direct, states, inputs, points)
        assert value == pytest.approx(reference.isoscore_star(points.astype(np.float64), COV, ZETA), abs=1e-5)
        value, H = scores_of(narrow, states, inputs, points)
        assert value == pytest.approx(reference.isoscore_star(H, COV, ZETA), abs=1e-5)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_errors_come_while_the_model_is_built() -> None:
    states = tf_keras.layers.Dense(DIM)(tf_keras.Input((None, 5)))
    with pytest.raises(iso.InvalidTypeError, match="lam: in a functional tf_keras model it is saved"):
        iso.istar_loss(states, COV, ZETA, tf.Variable(1.0))
    for arguments, message in (
        ((np.eye(DIM + 1), ZETA), "shrinkage_cov: expected shape"),
        ((COV + np.triu(np.ones((DIM, DIM)), 1), ZETA), "mirror image"),
        ((COV, 1.5), r"zeta: expected a number in \[0, 1\]"),
        ((), "Give one"),
    ):
        with pytest.raises(iso.InvalidValueError, match=message):
            iso.istar_loss(states, *arguments)
    with pytest.raises(iso.InvalidValueError, match="'shrinkage', 'unbiased'"):
        iso.istar_loss(states, estimator="both")
    with pytest.raises(iso.InvalidValueError, match=r"mask: expected shape \(None, None\)"):
        iso.isoscore(states, mask=states)
    with pytest.raises(iso.InvalidTypeError, match="no values while a graph is being built"):
        iso.measure(states)
