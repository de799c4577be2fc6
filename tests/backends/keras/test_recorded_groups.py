"""Functional models of Keras record every kind of `groups`, and layers take those of every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import isoscore_star as iso

pytest.importorskip("keras")
import keras

from isoscore_star.backends.keras import IStarActivityRegularizer, IStarRegularizer

# NumPy's complaint about how torch, inside Keras, copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

GROUPS = {
    "auto": "auto",
    "none": None,
    "an axis": 1,
    "an axis of NumPy": np.int64(0),
    "integers": np.array([40, 10, 20, 30, 60, 50])[:, None].repeat(5, 1),
    "a list": np.array([40, 10, 20, 30, 60, 50])[:, None].repeat(5, 1).tolist(),
    "words": np.array(list("fedcab"))[:, None].repeat(5, 1),
}


def number(x: object) -> float:
    return float(iso.get_backend("keras").to_numpy(x))


@pytest.mark.parametrize("clouds", [1, 2])
@pytest.mark.parametrize("groups", GROUPS)
def test_recorded_groups(tmp_path: Path, rng: np.random.Generator, groups: str, clouds: int) -> None:
    """Save and load whatever `groups` may be; labels keep their number while a graph is built."""
    given = [GROUPS[groups]] * clouds if groups == "a list" and clouds > 1 else GROUPS[groups]
    states = rng.normal(size=(6, 5, 4)) + 2 * rng.normal(size=(6, 1, 4))

    def penalty(h: object) -> object:
        return iso.istar_loss([h] * clouds if clouds > 1 else h, estimator="unbiased", groups=given)

    inputs = keras.Input((5, 4), dtype="float64")
    model = keras.Model(inputs, penalty(inputs))
    model.save(tmp_path / "model.keras")
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        assert number(each(states)) == pytest.approx(penalty(states), abs=1e-12)


def test_recorded_labels_that_come_with_the_inputs(tmp_path: Path, rng: np.random.Generator) -> None:
    states, numbers = rng.normal(size=(6, 5, 4)), rng.permutation(6)
    inputs, labels = keras.Input((5, 4), dtype="float64"), keras.Input((5,), dtype="int32")
    model = keras.Model([inputs, labels], iso.isoscore_unbiased(inputs, groups=labels))
    model.save(tmp_path / "model.keras")
    expected = iso.isoscore_unbiased(states[np.argsort(numbers)])
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        found = each([states, numbers[:, None].repeat(5, 1).astype("int32")])
        assert number(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("groups", [0, None])
def test_layers_take_the_groups_of_every_batch(tmp_path: Path, rng: np.random.Generator, groups: int | None) -> None:
    images = rng.normal(size=(6, 3, 3, 4)).astype("float32")
    expected = iso.istar_loss(images.astype(float), estimator="unbiased", groups=groups)
    model = keras.Sequential([keras.Input((3, 3, 4)), IStarRegularizer(estimator="unbiased", groups=groups)])
    model.save(tmp_path / "model.keras")
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        each(images, training=True)
        assert number(each.losses[0]) == pytest.approx(expected, abs=1e-5)
    activity = IStarActivityRegularizer(estimator="unbiased", groups=groups)
    again = IStarActivityRegularizer.from_config(activity.get_config())
    assert again.groups == groups
    with pytest.raises(iso.InvalidValueError, match="list"):
        IStarRegularizer(estimator="unbiased")(images, training=True)
    with pytest.raises(iso.InvalidValueError, match="Put the layer IStarRegularizer behind this one"):
        IStarActivityRegularizer(estimator="anchored")
