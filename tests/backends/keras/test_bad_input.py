"""Bad input to what stands in a Keras model raises our errors, which name the argument."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

pytest.importorskip("keras")
import keras

from isoscore_star.backends.keras import IsoScoreStar, IStarCallback, IStarRegularizer

POINTS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (3.0, r"y_pred: expected points as rows.*got \(\)"),
        (np.ones(4), r"y_pred: expected points as rows.*got \(4,\)"),
        ([[1.0, 2.0], [3.0]], "y_pred: list cannot be brought to NumPy"),
        ([["a", "b"]], "y_pred: .*got dtype str"),
        (np.ones((4, 3), complex), "y_pred: .*got dtype complex128"),
        (np.ones((4, 3), bool), "y_pred: .*got dtype bool"),
        (None, "y_pred: .*Python objects"),
        (np.ones((4, 1)), "y_pred: expected at least 2 dimensions; got 1"),
    ],
)
def test_points_of_the_metric(points: Any, message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        IsoScoreStar().update_state(None, points)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"sample_weight: expected shape \(5,\).*got \(3,\)"),
        (np.ones((5, 2)), r"sample_weight: expected shape \(5,\).*got \(5, 2\)"),
        (np.ones((5, 1, 1)), r"sample_weight: expected shape \(5,\).*got \(5, 1, 1\)"),
        ("abcde", "sample_weight: .*got dtype str"),
        ([[1], [1, 0]], "sample_weight: list cannot be brought to NumPy"),
    ],
)
def test_weights_of_the_metric(weights: Any, message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        IsoScoreStar().update_state(None, POINTS, weights)


def test_no_points_and_weights_as_a_column_are_fine() -> None:
    metric = IsoScoreStar()
    metric.update_state(None, POINTS[:0])
    metric.update_state(None, POINTS, np.ones((5, 1)))
    metric.update_state(None, POINTS[:0])
    assert float(iso.get_backend("keras").to_numpy(metric.result())) == pytest.approx(iso.isoscore(POINTS), abs=1e-5)


def test_masks_of_a_layer_that_follows_its_batches() -> None:
    layer = IStarRegularizer(running_average=0.9)
    clouds = [keras.ops.convert_to_tensor(POINTS)] * 2
    for mask, message in (
        ([np.ones(5)], "mask: expected one mask"),
        ([np.ones(5), np.ones(4)], r"mask: expected shape \(5,\).*got \(4,\)"),
    ):
        with pytest.raises(iso.InvalidValueError, match=message):
            layer(clouds, mask=mask, training=True)


@pytest.mark.parametrize("every", [0, -1, 2.0, True, "step", None, np.ones(3)])
def test_intervals_of_the_callback(every: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match='every: expected "epoch" or a positive number of steps'):
        IStarCallback(every=every)


def test_a_callback_that_has_nothing_to_refresh_from() -> None:
    for callback in (IStarCallback(), IStarCallback(POINTS)):
        with pytest.raises(iso.InvalidValueError, match="data: to refresh, the callback needs data, and a model"):
            callback.refresh()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the others have float64 always")
def test_float64_that_jax_does_not_have() -> None:
    import jax

    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(iso.InvalidValueError, match="dtype: JAX has no float64 unless it is enabled"):
            IsoScoreStar(dtype="float64")
