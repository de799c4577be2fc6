"""The score of two halves and the anchored loss: graphs, XLA, shapes known late, ragged tensors and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation import ADAPTERS

tf = pytest.importorskip("tensorflow")

from support_tensorflow import products  # noqa: E402

DIM = 6
COV = random_cov(np.random.default_rng(3), DIM)
KINDS = {"halves": {"estimator": "unbiased"}, "anchored": {"estimator": "anchored", "shrinkage_cov": COV}}
BACKEND, ADAPTER = iso.get_backend("tensorflow"), ADAPTERS["tensorflow"]
SHAPES = [(4, 2, DIM), (5, 8, DIM)]
"""Fewer points in a half than dimensions; more, and an odd number of groups."""

SPECS = [tf.TensorSpec([None, None, DIM], tf.float64)] * 2
MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda f: f,
    "static, XLA": lambda f: tf.function(f, jit_compile=True),
    "dynamic": lambda f: tf.function(f, input_signature=SPECS),
    "dynamic, XLA": lambda f: tf.function(f, jit_compile=True, input_signature=SPECS),
}


def states_of(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape) * np.linspace(0.5, 2, shape[-1]) + rng.normal(size=(shape[0], 1, shape[-1])) + 3


def loss_of(kind: str, **more: Any) -> Callable[[Any], Any]:
    return lambda x: iso.istar_loss(x, **KINDS[kind], **more)


@pytest.mark.sampled("kind")
@pytest.mark.parametrize("mode", ["dynamic", *(mode for mode in MODES if mode != "dynamic")])
@pytest.mark.parametrize("kind", KINDS)
def test_two_orders_of_derivatives(rng: np.random.Generator, mode: str, kind: str) -> None:
    """Compare with autograd's, which differentiates the definition."""
    autograd = pytest.importorskip("autograd")

    def all_three(x: Any, direction: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss, gradient = ADAPTER.value_and_gradient(loss_of(kind), x)
            slope = tf.reduce_sum(gradient * direction)
        return loss, gradient, tape.gradient(slope, x)

    run = MODES[mode](all_three)
    for shape in SHAPES:
        states, direction = states_of(rng, shape), rng.normal(size=shape)
        first = autograd.grad(loss_of(kind))
        second = autograd.grad(lambda x, v=direction, g=first: (g(x) * v).sum())
        found = run(tf.constant(states), tf.constant(direction))
        for got, expected in zip(found, (loss_of(kind)(states), first(states), second(states)), strict=True):
            assert np.abs(got - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.sampled
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("shape", "forward"), [(SHAPES[0], 1), (SHAPES[1], 2)])
def test_one_product_of_the_anchored_loss_and_one_a_half(
    dynamic: bool, shape: tuple[int, int, int], forward: int
) -> None:
    known = [None if dynamic else size for size in shape[:2]] + [DIM]
    both = {kind: lambda x, kind=kind: ADAPTER.value_and_gradient(loss_of(kind), x) for kind in KINDS}
    assert products(loss_of("anchored"), known) == products(both["anchored"], known) == 1
    if not dynamic:  # else both forms are in the graph
        assert products(loss_of("halves"), known) == forward
        assert products(both["halves"], known) == forward + 2


def test_one_trace_for_any_number_of_sequences(rng: np.random.Generator) -> None:
    traces = []

    @tf.function(input_signature=[*SPECS[:1], tf.TensorSpec([None, None], tf.int32)])
    def step(x: Any, mask: Any) -> Any:
        traces.append(x)
        return ADAPTER.value_and_gradient(loss_of("halves", mask=mask), x)

    for shape in ((8, 3), (5, 9), (3, 9), (0, 4), (4, 1), (1, 5)):
        states, mask = states_of(rng, (*shape, DIM)), (rng.random(shape) < 0.8).astype(np.int32)
        mask[:, :1] = 1
        loss, gradient = step(states, mask)
        expected = 0.0
        if shape[0] >= 4 and shape != (4, 1):
            halves = (states[half::2][mask[half::2] > 0] for half in (0, 1))
            expected = reference.isoscore_halves(*halves)
        if shape == (4, 1):
            expected = 1 - iso.istar_loss(states, estimator="unbiased")
        assert abs(1 - loss - expected) < 1e-12
        assert gradient.shape == states.shape
        assert np.any(gradient) == (shape[0] >= 4 and 0 < expected < 4)
    assert len(traces) == 1


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_traced_labels_are_the_numbers_of_groups(rng: np.random.Generator, dtype: str) -> None:
    states = states_of(rng, (6, 5, DIM))
    order = rng.permutation(30)
    X, numbers = states.reshape(-1, DIM)[order], np.repeat(np.arange(6), 5)[order]
    specs = [tf.TensorSpec([None, DIM], tf.float64), tf.TensorSpec([None], dtype)]
    run = tf.function(lambda x, groups: iso.istar_loss(x, estimator="unbiased", groups=groups), input_signature=specs)
    expected = iso.istar_loss(states, estimator="unbiased")
    assert abs(run(X, numbers.astype(dtype)) - expected) < 1e-12
    with pytest.raises(iso.InvalidTypeError, match="groups: labels that are not read"):
        tf.function(lambda x, groups: iso.isoscore_unbiased(x, groups=groups)).get_concrete_function(
            specs[0], tf.TensorSpec([None], tf.string)
        )
    # Known ones may be any: here all are even, or words.
    for known in (tf.constant(2 * numbers), tf.gather(tf.constant(list("abcdef")), numbers)):
        assert abs(iso.isoscore_unbiased(tf.constant(X), groups=known) - (1 - expected)) < 1e-12


def test_ragged_sequences(rng: np.random.Generator) -> None:
    lengths = [3, 0, 6, 2, 5, 4]
    points, keep = rng.normal(size=(20, DIM)), np.arange(20) % 4 != 1
    numbers = np.repeat(np.arange(6), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    X, mask = (tf.RaggedTensor.from_row_lengths(tf.constant(array), lengths) for array in (points, keep))

    def expected(numbers: np.ndarray) -> float:
        return reference.isoscore_halves(*(points[keep & (numbers % 2 == half)] for half in (0, 1)))

    assert abs(iso.isoscore_unbiased(X, mask=mask) - expected(numbers)) < 1e-12
    assert abs(iso.isoscore_unbiased(X, mask=mask, groups=1) - expected(position)) < 1e-12
    for labels in (3 * position, np.array(list("abcdef"))[position]):
        ragged = tf.RaggedTensor.from_row_lengths(tf.constant(labels), lengths)
        assert abs(iso.isoscore_unbiased(X, mask=mask, groups=ragged) - expected(position)) < 1e-12
    with pytest.raises(iso.InvalidValueError, match="groups: expected one label for each of 20 points"):
        iso.isoscore_unbiased(X, groups=tf.RaggedTensor.from_row_lengths(numbers[:-1], [3, 0, 6, 2, 5, 3]))

    values = tf.Variable(points)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of("halves", mask=mask)(tf.RaggedTensor.from_row_lengths(values, lengths))
        return loss, tf.convert_to_tensor(tape.gradient(loss, values))

    loss, gradient = step()
    assert abs(loss - (1 - expected(numbers))) < 1e-12

    @tf.function  # where labels are the numbers, of which the empty sequence has one too
    def dense(x: Any, groups: Any) -> Any:
        return ADAPTER.value_and_gradient(loss_of("halves", groups=groups, mask=keep), x)[1]

    assert np.abs(gradient - dense(points, numbers)).max() < 1e-14


def test_numbers_along_the_axes_of_ragged_tensors(rng: np.random.Generator) -> None:
    """Compare with the numbers of each point written out, row by row."""
    inner = tf.RaggedTensor.from_row_lengths(tf.constant(rng.normal(size=(11, 3, DIM))), [3, 0, 6, 2])
    deeper = tf.RaggedTensor.from_row_lengths(inner, [1, 3])
    for array in (inner, deeper, inner.to_tensor()):
        written = [index for index, _ in walk(array.to_list() if isinstance(array, tf.RaggedTensor) else array.numpy())]
        for axis in range(array.shape.rank - 1):
            assert BACKEND.numbers_along(array, axis).numpy().tolist() == [index[axis] for index in written]
            assert int(BACKEND.size(array, axis)) == 1 + max(index[axis] for index in written)


def walk(rows: Any) -> list[tuple[tuple[int, ...], Any]]:
    """Give the index of each point of nested lists."""
    if not len(rows) or not np.ndim(rows[0]):
        return [((), rows)] if len(rows) else []
    return [((i, *index), point) for i, row in enumerate(rows) for index, point in walk(row)]


def test_no_gradient_for_the_anchor(rng: np.random.Generator) -> None:
    cov = tf.Variable(COV)
    with tf.GradientTape() as tape:
        loss = iso.istar_loss(tf.constant(states_of(rng, SHAPES[0])), cov, estimator="anchored")
    assert tape.gradient(loss, cov) is None


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_only_on_return(rng: np.random.Generator, dtype: str) -> None:
    X = tf.cast(states_of(rng, (6, 9, DIM)) + 100, dtype)
    for kind in KINDS:
        loss, gradient = ADAPTER.value_and_gradient(loss_of(kind), X)
        exact, expected = ADAPTER.value_and_gradient(loss_of(kind), tf.cast(X, tf.float32))
        assert (loss.dtype, gradient.dtype) == (tf.float32, X.dtype)
        assert loss == exact
        assert np.array_equal(tf.cast(gradient, tf.float32), tf.cast(tf.cast(expected, dtype), tf.float32))
