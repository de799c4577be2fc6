"""Graphs, XLA, shapes known late, ragged tensors, precision: what is particular to TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation import ADAPTERS
from isoscore_star.validation._truth import shrunk, unbiased

tf = pytest.importorskip("tensorflow")

from support_tensorflow import products  # noqa: E402

DIM, ZETA = 8, 0.3
ROWS = (6, 8, 11)  # the Gram form; the scatter form, where they meet and beyond
COV = random_cov(np.random.default_rng(3), DIM)
ARGUMENTS = {"shrinkage": {"shrinkage_cov": COV, "zeta": ZETA}, "unbiased": {"estimator": "unbiased"}}
BACKEND, ADAPTER = iso.get_backend("tensorflow"), ADAPTERS["tensorflow"]


def loss_of(kind: str, **more: Any) -> Callable[[Any], Any]:
    return lambda x: iso.istar_loss(x, **ARGUMENTS[kind], **more)


def gradient_of(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: ADAPTER.value_and_gradient(function, x)[1]


def truth(kind: str, points: np.ndarray) -> tuple[float, np.ndarray]:
    """Give loss and gradient from Algorithm 1 and from the definition of the unbiased score."""
    found = unbiased(points) if kind == "unbiased" else shrunk(points, COV, ZETA)
    return 1 - found.value, -found.gradient


def second_truth(kind: str, points: np.ndarray, direction: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Differentiate the true gradient along a direction, by differences that err by step⁴ alone."""
    at = {k: truth(kind, points + k * step * direction)[1] for k in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)


# How a function of points and a direction is run. Dynamic: traced once, for any number of rows.
MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda f: f,
    "static": lambda f: tf.function(f),
    "static, XLA": lambda f: tf.function(f, jit_compile=True),
    "dynamic": lambda f: tf.function(f, input_signature=[tf.TensorSpec([None, DIM], tf.float64)] * 2),
    "dynamic, XLA": lambda f: tf.function(
        f, jit_compile=True, input_signature=[tf.TensorSpec([None, DIM], tf.float64)] * 2
    ),
}


@pytest.mark.sampled("kind")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ARGUMENTS)
def test_value_gradient_and_its_gradient(rng: np.random.Generator, mode: str, kind: str) -> None:
    def all_three(x: Any, direction: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss, gradient = ADAPTER.value_and_gradient(loss_of(kind), x)
            slope = tf.reduce_sum(gradient * direction)
        return loss, gradient, tape.gradient(slope, x)

    run = MODES[mode](all_three)
    for rows in ROWS:
        points, direction = rng.normal(size=(rows, DIM)) * np.geomspace(3, 0.5, DIM) + 5, rng.normal(size=(rows, DIM))
        loss, gradient, second = run(tf.constant(points), tf.constant(direction))
        expected = truth(kind, points)
        assert abs(loss - expected[0]) < 1e-12
        assert np.abs(gradient - expected[1]).max() <= 1e-10 * np.abs(expected[1]).max()
        # Differences of a gradient known to ε: ε/step, and the step⁴ of a fifth derivative.
        assert np.abs(second - second_truth(kind, points, direction)).max() < 1e-8


def cases() -> list[Any]:
    shapes = {"m<d": [6], "m=d": [DIM], "m>d": [11], "union m<d": [2, 4], "union m>d": [2, 9]}
    kinds = ("shrinkage 0", "shrinkage 0.3", "unbiased")
    return [
        pytest.param(lengths, kind, masked, id=f"{shape}-{kind}-{'mask' if masked else 'all'}")
        for shape, lengths in shapes.items()
        for kind in kinds
        for masked in ((False, True) if len(lengths) == 1 else (True,))
    ]


def jacobians_agree(function: Callable[..., Any], arguments: list[Any], tolerance: float) -> bool:
    """Compare by TensorFlow's own checker, whose differences err by ε/δ + δ²."""
    pairs = zip(*tf.test.compute_gradient(function, arguments, delta=1e-5), strict=True)
    return all(np.allclose(ours, numerical, rtol=0, atol=tolerance) for ours, numerical in pairs)


@pytest.mark.sampled("kind")
@pytest.mark.parametrize(("lengths", "kind", "masked"), cases())
def test_gradient_of_the_gradient(rng: np.random.Generator, lengths: list[int], kind: str, masked: bool) -> None:
    layers = [tf.constant(rng.normal(size=(m, DIM))) for m in lengths]
    # One row of all is left out, so that the unbiased score has the four that it needs.
    masks = [*(np.ones(m) for m in lengths[:-1]), np.arange(lengths[-1]) != 1] if masked else None
    estimator, _, zeta = kind.partition(" ")
    cov = COV if estimator == "shrinkage" else None

    def loss(*xs: Any) -> Any:
        return iso.istar_loss(list(xs), cov, float(zeta or 0), 1.5, mask=masks, estimator=estimator)

    @tf.function
    def gradients(*xs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(xs)
            value = loss(*xs)
        return tf.concat(tape.gradient(value, xs), 0)

    assert np.abs(gradients(*layers)).max() > 1e-3  # what is zero throughout could not be wrong
    assert jacobians_agree(gradients, layers, 1e-7)


@pytest.mark.sampled
@pytest.mark.parametrize("rows", [3, 9])
@pytest.mark.parametrize("dynamic", [False, True])
def test_gradients_for_shrinkage_cov_zeta_and_lam(rng: np.random.Generator, rows: int, dynamic: bool) -> None:
    dim = 4  # the checker moves every entry, of Σ_S too
    X, factor = tf.constant(rng.normal(size=(rows, dim))), tf.constant(rng.normal(size=(6, dim)))
    arguments = [X, factor, tf.constant(0.3, tf.float64), tf.constant(1.5, tf.float64)]
    signature = [
        tf.TensorSpec([None if dynamic else rows, dim], tf.float64),
        *map(tf.TensorSpec.from_tensor, arguments[1:]),
    ]

    @tf.function(input_signature=signature)
    def loss(x: Any, f: Any, zeta: Any, lam: Any) -> Any:
        return iso.istar_loss(x, tf.linalg.matmul(f, f, transpose_a=True), zeta, lam)

    @tf.function(input_signature=signature)
    def gradients(*given: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = loss(*given)
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(value, given)], 0)

    assert jacobians_agree(loss, arguments, 1e-8)
    assert jacobians_agree(gradients, arguments, 1e-7)


@pytest.mark.sampled
@pytest.mark.parametrize("rows", [6, 9])
@pytest.mark.parametrize("kind", ARGUMENTS)
def test_hessian_and_vectorized_map(rng: np.random.Generator, rows: int, kind: str) -> None:
    X = tf.constant(rng.normal(size=(2, rows, DIM)))
    with tf.GradientTape() as tape:
        tape.watch(X)
        gradient = gradient_of(loss_of(kind))(X[0])
    hessian = tape.jacobian(gradient, X)[..., 0, :, :]
    _, (numerical,) = tf.test.compute_gradient(tf.function(gradient_of(loss_of(kind))), [X[0]], delta=1e-5)
    assert np.allclose(np.reshape(hessian, numerical.shape), numerical, rtol=0, atol=1e-7)
    for function in (loss_of(kind), gradient_of(loss_of(kind))):
        assert np.allclose(tf.vectorized_map(function, X), [function(x) for x in X], rtol=0, atol=1e-13)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_trace_for_any_number_of_rows_and_for_schedules(rng: np.random.Generator, jit_compile: bool) -> None:
    lam, zeta, traces = tf.Variable(1.0, dtype=tf.float64), tf.Variable(0.3, dtype=tf.float64), []

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, None, DIM], tf.float64)])
    def step(x: Any) -> Any:
        traces.append(x)
        return ADAPTER.value_and_gradient(lambda y: iso.istar_loss(y, COV, zeta, lam), x)

    for shape, share, weight in (((1, 2), 0.3, 1.0), ((2, 2), 0.2, -1.0), ((3, 5), 0.8, 3.0), ((0, 5), 0.3, 1.0)):
        points = rng.normal(size=(*shape, DIM))
        zeta.assign(share)
        lam.assign(weight)
        loss, gradient = step(points)
        flat = points.reshape(-1, DIM)
        expected = reference.isoscore_star(flat, COV, share) if len(flat) else iso.isoscore_from_cov(COV)
        assert abs(loss - weight * (1 - expected)) < 1e-12
        assert gradient.shape == points.shape
    assert len(traces) == 1


DEGENERATE = {
    "no row": (np.zeros((0, DIM)), None),
    "no row, masked": (np.zeros((0, DIM)), np.zeros(0)),
    "one row": (np.ones((1, DIM)), None),
    "identical, few": (np.full((3, DIM), 0.1), None),
    "identical, many": (np.full((9, DIM), 0.1), None),
    "all masked": (np.full((6, DIM), np.nan), np.zeros(6)),
}


@pytest.mark.sampled("mode")
@pytest.mark.parametrize("mode", ["eager", "dynamic", "dynamic, XLA"])
@pytest.mark.parametrize("zeta", [0.0, 0.3, None])
def test_degenerate_batches_are_finite_to_the_second_derivative(mode: str, zeta: float | None) -> None:
    arguments = {"estimator": "unbiased"} if zeta is None else {"shrinkage_cov": COV, "zeta": zeta}
    expected = 1 - iso.isoscore_from_cov(COV) if zeta else 1.0

    def all_three(x: Any, mask: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss, gradient = ADAPTER.value_and_gradient(lambda y: iso.istar_loss([y, y], mask=mask, **arguments), x)
            slope = tf.reduce_sum(gradient)
        return loss, gradient, tape.gradient(slope, x)

    if mode != "eager":
        signature = [tf.TensorSpec([None, DIM], tf.float64), tf.TensorSpec([None], tf.float64)]
        all_three = tf.function(all_three, jit_compile=mode.endswith("XLA"), input_signature=signature)
    for points, mask in DEGENERATE.values():
        loss, gradient, second = all_three(
            tf.constant(points), tf.constant(np.ones(len(points)) if mask is None else mask)
        )
        assert float(loss) == pytest.approx(expected, abs=1e-14)
        assert not np.any(gradient)
        assert np.isfinite(second).all()


def test_a_cloud_that_is_masked_wholly_leaves_the_others_exact() -> None:
    # Identical points have no scatter at all only if differences are taken from one of them.
    far, masked = tf.fill([9, DIM], tf.constant(0.1, tf.float64)), tf.fill([9, DIM], tf.constant(np.nan, tf.float64))
    loss = iso.istar_loss([masked, far], zeta=0.0, mask=[np.zeros(9), np.ones(9)])
    assert loss == 1.0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_masks_whose_values_are_known_late(rng: np.random.Generator, jit_compile: bool) -> None:
    points = rng.normal(size=(4, 6, DIM))
    specs = [tf.TensorSpec([None, None, DIM], tf.float64), tf.TensorSpec([None, None], tf.int32)]
    step = tf.function(
        lambda x, mask: ADAPTER.value_and_gradient(loss_of("shrinkage", mask=mask), x),
        jit_compile=jit_compile,
        input_signature=specs,
    )
    for keep in (rng.random((4, 6)) < 0.7, np.arange(24).reshape(4, 6) % 9 == 4, np.arange(24).reshape(4, 6) > 20):
        loss, gradient = step(np.where(keep[..., None], points, np.nan), keep.astype(np.int32))
        expected = truth("shrinkage", points[keep])
        assert abs(loss - expected[0]) < 1e-12
        assert np.abs(gradient.numpy()[keep] - expected[1]).max() <= 1e-10 * np.abs(expected[1]).max()
        assert not gradient.numpy()[~keep].any()


@pytest.mark.parametrize(
    ("rows", "zeta", "forward", "backward"), [(9, 0.0, 1, 1), (9, 0.3, 1, 1), (3, 0.0, 1, 1), (3, 0.3, 2, 1)]
)
def test_one_product_forward_and_one_backward(rows: int, zeta: float, forward: int, backward: int) -> None:
    def loss(x: Any) -> Any:
        return iso.istar_loss(x, COV if zeta else None, zeta)

    assert products(loss, [rows, DIM]) == forward
    assert products(lambda x: ADAPTER.value_and_gradient(loss, x), [rows, DIM]) == forward + backward


def test_shapes_that_have_to_be_known() -> None:
    def traced(*specs: Any) -> Any:
        return tf.function(iso.isoscore).get_concrete_function(*specs)

    with pytest.raises(iso.InvalidValueError, match="X: the number of axes has to be known"):
        traced(tf.TensorSpec(None, tf.float32))
    with pytest.raises(iso.InvalidValueError, match=r"X: the number of dimensions .* got shape \(None, None\)"):
        traced(tf.TensorSpec([None, None], tf.float32))
    with pytest.raises(iso.InvalidValueError, match="mask: the number of axes has to be known"):
        tf.function(lambda x, mask: iso.isoscore(x, mask=mask)).get_concrete_function(
            tf.TensorSpec([None, DIM]), tf.TensorSpec(None)
        )
    with pytest.raises(iso.InvalidValueError, match="shrinkage_cov: expected a square matrix"):
        tf.function(lambda x, cov: iso.isoscore_star(x, cov, 0.2)).get_concrete_function(
            tf.TensorSpec([None, DIM]), tf.TensorSpec([None, None])
        )
    with pytest.raises(iso.InvalidValueError, match=r"mask: expected shape \(None, 7\).*got \(None, 6\)"):
        tf.function(lambda x, mask: iso.isoscore(x, mask=mask)).get_concrete_function(
            tf.TensorSpec([None, 7, DIM]), tf.TensorSpec([None, 6])
        )


def test_values_are_checked_only_where_they_are_known() -> None:
    broken = tf.constant(np.full((9, DIM), np.nan))
    with pytest.raises(iso.InvalidValueError, match="finite"):
        iso.isoscore(broken)
    assert np.isnan(tf.function(iso.isoscore)(broken))
    with pytest.raises(iso.InvalidTypeError, match="no values while a graph is being built"):
        tf.function(lambda x: iso.Moments().update(x).count)(broken)


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_only_on_return(rng: np.random.Generator, rows: int, dtype: str) -> None:
    X = tf.cast(rng.normal(size=(rows, DIM)) * 50 + 200, dtype)
    loss, gradient = ADAPTER.value_and_gradient(loss_of("shrinkage"), X)
    exact, expected = ADAPTER.value_and_gradient(loss_of("shrinkage"), tf.cast(X, tf.float32))
    assert (loss.dtype, gradient.dtype) == (tf.float32, X.dtype)
    assert loss == exact
    assert np.array_equal(tf.cast(gradient, tf.float32), tf.cast(tf.cast(expected, dtype), tf.float32))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_policy_changes_nothing_here(rng: np.random.Generator, policy: str) -> None:
    keras = pytest.importorskip("tf_keras")
    X = tf.constant(rng.normal(size=(20, DIM)) * 50 + 200, tf.float32)
    expected = ADAPTER.value_and_gradient(loss_of("shrinkage"), X)

    class Layer(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return ADAPTER.value_and_gradient(loss_of("shrinkage"), x)

    keras.mixed_precision.set_global_policy(policy)
    try:
        layer = Layer(autocast=False)
        assert layer.compute_dtype != "float32"
        for got, want in zip(layer(X), expected, strict=True):
            assert got.dtype == tf.float32
            assert np.array_equal(got, want)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_variables_and_constants_of_numpy(rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, DIM))
    X, cov = tf.Variable(points), tf.Variable(COV)
    expected = reference.isoscore_star(points, COV, ZETA)
    with tf.GradientTape() as tape:
        score = iso.isoscore_star(X, cov, ZETA)
    assert abs(score - expected) < 1e-12
    assert np.abs(tape.gradient(score, X) - shrunk(points, COV, ZETA).gradient).max() < 1e-14
    # NumPy may store numbers in the other byte order, or in more digits than TensorFlow has.
    for other in (COV.astype(">f8"), COV.astype(np.longdouble), COV.astype(np.float32).astype(np.float64)):
        assert abs(iso.isoscore_star(X, other, ZETA) - expected) < 1e-7
    assert iso.Moments().update(X).isoscore() == pytest.approx(reference.isoscore_star(points), abs=1e-12)


def test_training_raises_and_lowers_isotropy(rng: np.random.Generator) -> None:
    start = rng.normal(size=(64, 8)) * np.linspace(0.2, 2, 8)
    results = {}
    for lam in (1.0, -1.0):
        X = tf.Variable(start)
        for _ in range(60):
            X.assign_sub(40 * gradient_of(lambda x, w=lam: iso.istar_loss(x, zeta=0.0, lam=w))(X))
        results[lam] = float(iso.isoscore(X))
    assert results[-1.0] < iso.isoscore(start) / 2 < iso.isoscore(start) < results[1.0]


def test_devices_and_dtypes() -> None:
    assert ADAPTER.devices()[0] == "cpu"
    X = ADAPTER.native(np.eye(3), "bfloat16", "cpu")
    assert (X.dtype, BACKEND.dtype_name(X)) == (tf.bfloat16, "bfloat16")
    assert BACKEND.to_numpy(X).dtype == np.float32
    with pytest.raises(TypeError):
        ADAPTER.native(np.eye(3), "float12", "cpu")
    score = iso.isoscore(X)
    assert (score.shape, score.dtype) == (tf.TensorShape([]), tf.float32)
    for dtype in (tf.string, tf.complex64, tf.bool):
        with pytest.raises(iso.InvalidTypeError, match=f"got dtype {dtype.name}"):
            iso.isoscore(tf.zeros((3, 3), dtype))
