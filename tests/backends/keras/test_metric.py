"""The metric against NumPy on the concatenation of everything it was given."""

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

from isoscore_star.backends.keras import IsoScoreStar

FRAMEWORK = keras.backend.backend()
BACKEND = iso.get_backend("keras")

# NumPy's complaint about how torch, inside Keras, copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def number(x: Any) -> float:
    return float(BACKEND.to_numpy(x))


def cloud(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    return rng.normal(size=(rows, dim)) * np.linspace(0.5, 2, dim) @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]


KINDS: dict[str, tuple[dict[str, Any], Callable[[np.ndarray, np.ndarray], float]]] = {
    "plain": ({}, lambda points, cov: reference.isoscore_star(points)),
    "shrinkage": ({"zeta": 0.4}, lambda points, cov: reference.isoscore_star(points, cov, 0.4)),
    "unbiased": ({"estimator": "unbiased"}, lambda points, cov: iso.isoscore_unbiased(points)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_exact_on_the_concatenation(
    rng: np.random.Generator, kind: str, mean: float, dtype: str, tolerance: float
) -> None:
    arguments, expected = KINDS[kind]
    points, cov = (cloud(rng, 500, 24) + mean).astype(dtype), random_cov(rng, 24)
    if kind == "shrinkage":
        arguments = {**arguments, "shrinkage_cov": cov}
    metric = IsoScoreStar(24, dtype=dtype, **arguments)
    for batch in np.split(points, [1, 2, 102, 202, 302, 402, 499]):
        metric.update_state(None, batch)
    truth = expected(points.astype(np.float64), cov)
    assert number(metric.result()) == pytest.approx(truth, abs=tolerance)
    metric.reset_state()
    metric.update_state(None, points[:100])
    truth = expected(points[:100].astype(np.float64), cov)
    assert number(metric.result()) == pytest.approx(truth, abs=(100 if kind == "unbiased" else 1) * tolerance)


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float64", 1e100), ("float64", 1e-100), ("float32", 1e15), ("float32", 1e-15)]
)
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_any_scale(rng: np.random.Generator, dtype: str, scale: float, estimator: str) -> None:
    points = cloud(rng, 300, 8)
    expected = iso.isoscore(points) if estimator == "shrinkage" else iso.isoscore_unbiased(points)
    metric = IsoScoreStar(estimator=estimator, dtype=dtype)
    for batch in np.split(points * scale, 5):
        metric.update_state(None, batch.astype(dtype))
    assert number(metric.result()) == pytest.approx(expected, abs=1e-10 if dtype == "float64" else 1e-5)


def test_masks_weights_and_leading_axes(rng: np.random.Generator) -> None:
    states, keep = rng.normal(size=(6, 9, 5)), rng.random((6, 9)) < 0.6
    noisy = np.where(keep[..., None], states, np.nan)
    metric = IsoScoreStar(5, dtype="float64")
    metric.update_state(None, noisy[:2], keep[:2])
    metric.update_state(None, noisy[2:], 0.5 * keep[2:])  # any weight but zero is a point
    assert number(metric.result()) == pytest.approx(reference.isoscore_star(states[keep]), abs=1e-12)

    carried = keras.ops.convert_to_tensor(noisy, "float64")
    carried._keras_mask = keras.ops.convert_to_tensor(keep)
    by_sample = np.array([1, 0, 1, 1, 0, 1])
    metric.reset_state()
    metric.update_state(None, carried, by_sample)
    expected = reference.isoscore_star(states[keep & (by_sample[:, None] > 0)])
    assert number(metric.result()) == pytest.approx(expected, abs=1e-12)


def test_half_precision_is_summed_in_float32(rng: np.random.Generator) -> None:
    for dtype in ("float16", "bfloat16"):
        states = keras.ops.cast(rng.normal(size=(4000, 16)) * np.r_[300.0, np.ones(15)], dtype)
        metric = IsoScoreStar(dtype=dtype)
        metric.update_state(None, states)
        rounded = BACKEND.to_numpy(keras.ops.cast(states, "float64"))
        assert number(metric.result()) == pytest.approx(reference.isoscore_star(rounded), abs=1e-5)


SIZES = (3, 1, 4, 5, 2)


def tokens(rng: np.random.Generator, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Give 15 sequences, each unlike the others, and a mask by which one of them has no token."""
    states = rng.normal(size=(15, 1, dim)) * 2 + rng.normal(size=(15, 9, dim)) * np.linspace(0.3, 2, dim)
    mask = rng.random((15, 9)) > 0.4
    mask[4] = False
    return states, mask


def halves(states: np.ndarray, mask: np.ndarray) -> float:
    return reference.isoscore_halves(*(states[half::2][mask[half::2]] for half in (0, 1)))


def batches(states: np.ndarray, mask: np.ndarray) -> Any:
    cuts = np.cumsum(SIZES)[:-1]
    return zip(np.split(states, cuts), np.split(mask, cuts), strict=True)


@pytest.mark.parametrize(("dtype", "mean", "tolerance"), [("float64", 10, 1e-12), ("float32", 300, 1e-4)])
def test_token_states_are_halves_of_their_sequences(
    rng: np.random.Generator, dtype: str, mean: float, tolerance: float
) -> None:
    states, mask = tokens(rng)
    states = (states + mean).astype(dtype)
    metric = IsoScoreStar(estimator="unbiased", dtype=dtype)
    for batch, keep in batches(np.where(mask[..., None], states, np.nan), mask):
        metric.update_state(None, batch, keep)
    assert number(metric.result()) == pytest.approx(halves(states.astype(np.float64), mask), abs=tolerance)
    metric.reset_state()
    metric.update_state(None, states[:8])
    expected = halves(states[:8].astype(np.float64), np.ones((8, 9), bool))
    assert number(metric.result()) == pytest.approx(expected, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_token_states_in_compile(rng: np.random.Generator, jit: bool) -> None:
    states, _ = tokens(rng)
    model = keras.Sequential([keras.Input((9, 6)), keras.layers.Dense(4, use_bias=False)])
    compiled = {"jit_compile": True} if jit and FRAMEWORK != "torch" else {"run_eagerly": jit}
    metric = IsoScoreStar(estimator="unbiased", name="unbiased")
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[metric], **compiled)
    # Batches of 7, 7 and 1: odd, and at last an empty half.
    found = model.fit(states, np.zeros((15, 9, 4)), batch_size=7, shuffle=False, epochs=2, verbose=0).history
    outputs = states.astype(np.float32) @ BACKEND.to_numpy(model.layers[0].kernel)
    expected = halves(outputs.astype(np.float64), np.ones((15, 9), bool))
    assert found["unbiased"] == pytest.approx([expected] * 2, abs=1e-5)


def test_groups_of_the_metric_and_of_a_batch(rng: np.random.Generator) -> None:
    states, mask = tokens(rng)
    swapped = IsoScoreStar(estimator="unbiased", groups=1, dtype="float64")
    swapped.update_state(None, states.swapaxes(0, 1), mask.T)
    labelled = IsoScoreStar.from_config({**swapped.get_config(), "groups": "auto"})
    for start, (batch, keep) in zip(np.cumsum((0, *SIZES)), batches(states, mask), strict=False):
        labels = np.broadcast_to(start + np.arange(len(batch))[:, None], keep.shape)
        labelled.update_state(None, batch.reshape(-1, 6), keep.reshape(-1), labels.reshape(-1))
    for metric in (swapped, labelled):
        assert number(metric.result()) == pytest.approx(halves(states, mask), abs=1e-12)
    assert swapped.get_config()["groups"] == 1
    labelled.update_state(None, states[0])
    assert np.isnan(number(labelled.result()))  # some points with groups, others without
    independent = IsoScoreStar(estimator="unbiased", groups=None, dtype="float64")
    independent.update_state(None, states)
    expected = iso.isoscore_unbiased(states.reshape(-1, 6))
    assert number(independent.result()) == pytest.approx(expected, abs=1e-12)
    assert len(independent.variables) < len(swapped.variables) / 2
    with pytest.raises(iso.InvalidValueError, match='Make it with groups="auto"'):
        independent.update_state(None, states, groups=0)
    with pytest.raises(iso.InvalidValueError, match=r"list\(X\), or groups=1"):
        IsoScoreStar(estimator="unbiased").update_state(None, np.zeros((2, 3, 4, 5)))


@pytest.mark.slow
@pytest.mark.skipif(FRAMEWORK != "tensorflow", reason="unknown sizes while tracing")
def test_traced_labels_and_sizes(rng: np.random.Generator) -> None:
    import tensorflow as tf

    states, _ = tokens(rng)
    labels = np.repeat(np.arange(15), 9)
    metric = IsoScoreStar(6, estimator="unbiased", dtype="float64")
    shapes = [tf.TensorSpec((None, 6), tf.float64), tf.TensorSpec((None,), tf.int64)]
    update = tf.function(lambda x, groups: metric.update_state(None, x, groups=groups), input_signature=shapes)
    order, points = rng.permutation(135), states.reshape(-1, 6)
    update(points[order], labels[order])
    assert number(metric.result()) == pytest.approx(halves(states, np.ones((15, 9), bool)), abs=1e-12)
    update(points[:9], labels[:9])  # number 15, of the second half
    expected = reference.isoscore_halves(
        states[0::2].reshape(-1, 6), np.concatenate([states[1::2].reshape(-1, 6), points[:9]])
    )
    assert number(metric.result()) == pytest.approx(expected, abs=1e-12)
    metric.reset_state()
    some = labels % 2 == 0
    some[9] = True  # one group in the odd half
    update(points[some], labels[some])
    assert number(metric.result()) == 0


def test_saved_weights_count_on(rng: np.random.Generator, tmp_path: Path) -> None:
    states, mask = tokens(rng)
    first, second = (IsoScoreStar(6, estimator="unbiased", dtype="float64") for _ in range(2))
    first.update_state(None, states[:5], mask[:5])
    for own, other in zip(second.variables, first.variables, strict=True):
        own.assign(other)
    assert number(second.result()) == number(first.result())
    second.update_state(None, states[5:], mask[5:])
    assert number(second.result()) == pytest.approx(halves(states, mask), abs=1e-12)


def test_halves_without_a_score(rng: np.random.Generator) -> None:
    def score(states: np.ndarray) -> float:
        metric = IsoScoreStar(6, estimator="unbiased", dtype="float64")
        metric.update_state(None, states)
        return number(metric.result())

    states, _ = tokens(rng)
    for few in (states[:0], states[:3], states[:, :0]):
        assert score(few) == 0
    for half in (0, 1):
        flat = states.copy()
        flat[half::2] = 3.0
        assert score(flat) == 0
    apart = states.copy()
    apart[0::2, :, :3] = 0.0
    apart[1::2, :, 3:] = 0.0
    assert np.isnan(score(apart))


@pytest.mark.parametrize("labelled", [False, True])
def test_sequences_without_a_token_are_no_groups(rng: np.random.Generator, labelled: bool) -> None:
    states, mask = rng.normal(size=(9, 4, 6)), np.zeros((9, 4), bool)
    mask[[0, 2, 5], 1:] = True  # one of those in the odd half, to which the second update adds another one
    metric = IsoScoreStar(6, estimator="unbiased", dtype="float64")
    metric.update_state(None, states[:7], mask[:7], np.repeat(np.arange(7), 4).reshape(7, 4) if labelled else "auto")
    assert number(metric.result()) == 0
    metric.update_state(None, states[7:], np.ones((2, 4)), np.array([[0] * 4, [1] * 4]) if labelled else "auto")
    mask[7:] = True
    assert number(metric.result()) == pytest.approx(halves(states, mask), abs=1e-12)


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_degenerate_data_score_0_and_spoil_nothing(rng: np.random.Generator, estimator: str) -> None:
    points = rng.normal(size=(30, 4))
    expected = iso.isoscore(points) if estimator == "shrinkage" else iso.isoscore_unbiased(points)
    metric = IsoScoreStar(4, estimator=estimator, dtype="float64")
    assert number(IsoScoreStar(estimator=estimator).result()) == 0.0
    assert number(metric.result()) == 0.0
    metric.update_state(None, np.full((5, 4), np.nan), np.zeros(5))  # no point at all
    assert number(metric.result()) == 0.0
    for batch in (points[:1], points[1:2], points[2:], np.full((5, 4), np.nan)):
        metric.update_state(None, batch, None if np.isfinite(batch).all() else np.zeros(len(batch)))
    assert number(metric.result()) == pytest.approx(expected, abs=1e-12)
    same = IsoScoreStar(4, estimator=estimator)
    for _ in range(2):
        same.update_state(None, np.full((20, 4), 0.1))
    assert number(same.result()) == 0.0


def encoder(dim: int, **compiled: Any) -> Any:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(dim, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse", **compiled)
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "compiled",
    [
        {},
        pytest.param({"jit_compile": True}, marks=pytest.mark.skipif(FRAMEWORK == "torch", reason="takes minutes")),
        {"run_eagerly": True},
    ],
    ids=str,
)
def test_in_compile(rng: np.random.Generator, known: bool, compiled: dict[str, Any]) -> None:
    points = rng.normal(size=(50, 6)).astype("float32")
    weights = (np.arange(50) % 3 > 0).astype("float32")
    metrics = [IsoScoreStar(4 if known else None), IsoScoreStar(estimator="unbiased", name="unbiased")]
    weighted = [IsoScoreStar(name="weighted")]
    model = encoder(4, metrics=metrics, weighted_metrics=weighted, **compiled)
    states = points @ BACKEND.to_numpy(model.layers[0].kernel).astype(np.float64)
    history = model.fit(
        points,
        np.zeros((50, 4)),
        sample_weight=weights,
        batch_size=16,
        epochs=2,
        verbose=0,
        validation_data=(points[:20], np.zeros((20, 4))),
    ).history
    expected = {
        "isoscore_star": iso.isoscore(states),
        "unbiased": iso.isoscore_unbiased(states),
        "weighted": iso.isoscore(states[weights > 0]),
        "val_isoscore_star": iso.isoscore(states[:20]),
        "val_unbiased": iso.isoscore_unbiased(states[:20]),
    }
    for name, score in expected.items():
        assert history[name] == pytest.approx([score, score], abs=1e-4 if "unbiased" in name else 1e-5)


def test_the_configuration_makes_the_same_metric(rng: np.random.Generator, tmp_path: Path) -> None:
    metric = IsoScoreStar(4, 0.3, random_cov(rng, 4), name="it", dtype="float64")
    config = metric.get_config()
    assert IsoScoreStar.from_config(config).get_config() == config
    points = rng.normal(size=(20, 6)).astype("float32")
    model = encoder(4, metrics=[metric])
    before = model.evaluate(points, np.zeros((20, 4)), verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(points, np.zeros((20, 4)), verbose=0, return_dict=True) == pytest.approx(before, abs=1e-6)


def test_bad_arguments_and_points() -> None:
    for arguments, message in [
        ({"dim": 1}, "dim: expected at least 2"),
        ({"zeta": 0.2}, "none was given"),
        ({"estimator": "best"}, "estimator: expected one of"),
        ({"dim": 3, "zeta": 0.2, "shrinkage_cov": np.eye(4)}, r"shrinkage_cov: expected shape \(3, 3\)"),
    ]:
        with pytest.raises(iso.InvalidValueError, match=message):
            IsoScoreStar(**arguments)
    with pytest.raises(iso.InvalidValueError, match=r"y_pred: expected points as rows, shape \(..., 3\); got \(5, 4\)"):
        IsoScoreStar(3).update_state(None, np.ones((5, 4)))
    with pytest.raises(iso.InvalidValueError, match="expected points as rows"):
        IsoScoreStar(3).update_state(None, np.ones(3))
