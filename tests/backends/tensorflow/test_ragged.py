"""Ragged tensors: points as the rows of their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation._truth import shrunk

tf = pytest.importorskip("tensorflow")

DIM = 8
COV = random_cov(np.random.default_rng(3), DIM)


def ragged(points: np.ndarray, lengths: list[int]) -> Any:
    return tf.RaggedTensor.from_row_lengths(tf.constant(points), lengths)


def test_ragged_points(rng: np.random.Generator) -> None:
    points, keep = rng.normal(size=(11, DIM)), np.arange(11) % 4 != 1
    lengths = [3, 0, 6, 2]
    X, mask = ragged(points, lengths), ragged(keep, lengths)
    assert abs(iso.isoscore(X) - reference.isoscore_star(points)) < 1e-12
    assert abs(iso.isoscore(X, mask=mask) - reference.isoscore_star(points[keep])) < 1e-12
    deeper = tf.RaggedTensor.from_row_lengths(X, [1, 3])
    deeper_mask = tf.RaggedTensor.from_row_lengths(mask, [1, 3])
    assert abs(iso.isoscore(deeper, mask=deeper_mask) - reference.isoscore_star(points[keep])) < 1e-12
    assert abs(iso.isoscore([X, X], mask=mask) - iso.isoscore(np.tile(points[keep], (2, 1)))) < 1e-12

    values = tf.Variable(points)

    @tf.function
    def step(mask: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = iso.istar_loss(tf.RaggedTensor.from_row_lengths(values, lengths), COV, 0.3, mask=mask)
        return loss, tape.gradient(loss, values)

    loss, gradient = step(mask)
    truth = shrunk(points[keep], COV, 0.3)
    assert abs(loss - (1 - truth.value)) < 1e-12
    assert np.abs(gradient.numpy()[keep] + truth.gradient).max() < 1e-14
    assert not gradient.numpy()[~keep].any()
    with pytest.raises(tf.errors.InvalidArgumentError, match="same row lengths as X"):
        tf.function(lambda x, k: iso.isoscore(x, mask=k))(X, ragged(keep, [2, 1, 6, 2]))


def test_ragged_points_that_do_not_fit(rng: np.random.Generator) -> None:
    points, lengths = rng.normal(size=(11, DIM)), [3, 0, 6, 2]
    X = ragged(points, lengths)
    for mask in (ragged(np.ones(11), [2, 1, 6, 2]), np.ones((4, 6)), tf.ones((4, 6))):
        with pytest.raises(iso.InvalidValueError, match=r"mask: expected a ragged tensor with the same row lengths"):
            iso.isoscore(X, mask=mask)
    with pytest.raises(iso.InvalidValueError, match="mask: it is ragged, but X is not"):
        iso.isoscore(tf.zeros((4, 6, DIM)), mask=ragged(np.ones(11), lengths))
    with pytest.raises(iso.InvalidValueError, match=r"X: the number of dimensions .* same for all points"):
        iso.isoscore(tf.ragged.constant([[1.0, 2.0, 3.0], [4.0, 5.0]]))
