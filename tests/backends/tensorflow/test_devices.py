"""Two replicas of a `tf.distribute` strategy against one device: this file, run as a script, is the two."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference

DIM, ZETA = 5, 0.3
RNG = np.random.default_rng(7)
COV = np.diag([3.0, 1.0, 1.0, 0.5, 0.2]) + 0.1
POINTS = RNG.normal(size=(11, DIM)) * [3, 2, 1, 1, 0.5] + 4
STATES = RNG.normal(size=(7, 4, DIM)) * [3, 2, 1, 1, 0.5] + 2 * RNG.normal(size=(7, 1, DIM))
DIRECTION = RNG.normal(size=POINTS.shape)
ALONG = RNG.normal(size=STATES.shape)
WEIGHTS = RNG.normal(size=(DIM, DIM))
KEPT = np.arange(11) % 4 != 1


def cases() -> dict[str, tuple[np.ndarray, int, dict[str, object]]]:
    """Give the points, where they are cut in two, and the arguments of the loss."""
    shrunk, unbiased = {"shrinkage_cov": COV, "zeta": ZETA}, {"estimator": "unbiased"}
    anchored = {"shrinkage_cov": COV, "estimator": "anchored"}
    return {
        "uneven": (POINTS, 7, shrunk),
        "fewer points than dimensions": (POINTS[:4], 1, shrunk),
        "no point on the first": (POINTS, 0, shrunk),
        "no point on the second": (POINTS, 11, shrunk),
        "unbiased": (POINTS, 7, unbiased),
        "unbiased, no point on the first": (POINTS, 0, unbiased),
        "anchored": (POINTS, 7, anchored),
        "sequences, uneven": (STATES, 4, unbiased),
        "sequences, three on the first": (STATES[:4], 3, unbiased),
        "sequences, all on the second": (STATES[:5], 0, unbiased),
        "three sequences": (STATES[:3], 2, unbiased),
        "identical": (np.full((6, DIM), 0.1), 2, {"zeta": 0.0}),
        "no point at all": (np.zeros((0, DIM)), 0, {"zeta": 0.0}),
    }


EAGER = ("uneven", "unbiased", "anchored", "sequences, uneven")


def direction_of(points: np.ndarray) -> np.ndarray:
    return (DIRECTION if points.ndim == 2 else ALONG)[: len(points)]


def main(path: str) -> None:
    """Compute on two replicas and save what each of them found."""
    import tensorflow as tf

    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found: dict[str, np.ndarray] = {"imported": np.array(imported())}

    def parts(array: np.ndarray, cut: int) -> object:
        halves = [tf.constant(array[:cut]), tf.constant(array[cut:])]
        return strategy.experimental_distribute_values_from_function(
            lambda context: halves[context.replica_id_in_sync_group]
        )

    def keep(name: str, **values: object) -> None:
        for kind, value in values.items():
            for i, local in enumerate(strategy.experimental_local_results(value)):
                found[f"{name}/{kind}/{i}"] = np.asarray(local)

    def both(points: object, direction: object, masks: object, arguments: dict[str, object]) -> object:
        with tf.GradientTape() as outer:
            outer.watch(points)
            with tf.GradientTape() as tape:
                tape.watch(points)
                loss = iso.istar_loss(points, mask=masks, across="replicas", **arguments)
            gradient = tape.gradient(loss, points)
            slope = tf.reduce_sum(gradient * direction)
        return loss, gradient, outer.gradient(slope, points)

    for name, (points, cut, arguments) in cases().items():
        pair = parts(points, cut), parts(direction_of(points), cut)

        def step(points: object, direction: object, arguments: dict[str, object] = arguments) -> object:
            return both(points, direction, None, arguments)

        ways = {"traced": tf.function(strategy.run)} | ({"eager": strategy.run} if name in EAGER else {})
        for way, run in ways.items():
            loss, gradient, second = run(step, pair)
            keep(f"{name}, {way}", loss=loss, gradient=gradient, second=second)

    masked = strategy.run(
        lambda x, v, k: both(x, v, k, {"shrinkage_cov": COV, "zeta": ZETA}),
        (parts(np.where(KEPT[:, None], POINTS, np.nan), 7), parts(DIRECTION, 7), parts(KEPT, 7)),
    )
    keep("masked", loss=masked[0], gradient=masked[1])

    wide = parts((POINTS + 100).astype(np.float32), 7)
    keep("float32", loss=strategy.run(lambda x: iso.istar_loss([x, x], zeta=0.0, across="replicas"), (wide,)))

    with strategy.scope():
        weights, cov = tf.Variable(WEIGHTS), tf.Variable(COV)

    @tf.function
    def of_variables(x: object) -> object:
        with tf.GradientTape() as tape:
            loss = iso.istar_loss(tf.linalg.matmul(x, weights), cov, ZETA, across="replicas")
        own, whole = tape.gradient(loss, [weights, cov])
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own), whole

    gradients = strategy.run(of_variables, (parts(POINTS, 7),))
    keep("variables", weights=gradients[0], cov=gradients[1])

    with strategy.scope():
        try:
            iso.isoscore(tf.constant(POINTS), across="replicas")
        except iso.InvalidValueError as error:
            found["error"] = np.array(str(error))
        found["keras"] = np.array(trained_by_keras())
    np.savez(path, **found)


def imported() -> list[bool]:
    """Tell whether tf_keras is imported for tensors, and what belongs to it for its placeholders."""
    import tensorflow as tf

    iso.istar_loss(tf.eye(3), zeta=0.0)
    iso.istar_loss([tf.eye(3), tf.eye(3)], zeta=0.0)
    for_tensors = "tf_keras" in sys.modules
    import tf_keras

    iso.istar_loss(tf_keras.Input((3,)), zeta=0.0)
    return [for_tensors, "isoscore_star.backends.tensorflow.tf_keras_layer" in sys.modules]


def trained_by_keras() -> list[float]:
    """Give the loss that a tf_keras model reports for one global batch of both replicas."""
    import tf_keras

    inputs = tf_keras.Input((DIM,), dtype="float64")
    states = tf_keras.layers.Dense(
        DIM, use_bias=False, dtype="float64", kernel_initializer=lambda shape, dtype=None: WEIGHTS
    )(inputs)
    model = tf_keras.Model(inputs, states)
    model.add_loss(iso.istar_loss(states, COV, ZETA, across="replicas"))
    model.compile(tf_keras.optimizers.SGD(0.5))
    history = model.fit(POINTS[:10], batch_size=10, epochs=1, verbose=0)
    return [history.history["loss"][0], *model.get_weights()[0].ravel()]


def path_of_tests() -> str:
    return os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])


pytestmark = pytest.mark.slow  # a process with two devices, for a minute


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf_keras")
    path = tmp_path_factory.mktemp("replicas") / "found.npz"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path_of_tests()}
    subprocess.run([sys.executable, __file__, str(path)], check=True, env=environment, timeout=300)
    return dict(np.load(path))


def score(points: np.ndarray, arguments: dict[str, object]) -> float:
    """Give the score by other means than the backend's: by its definition, or the NumPy backend's unbiased estimate."""
    if len(points) < 2 or not np.ptp(points, axis=0).any():
        return 0.0
    if arguments.get("estimator") == "anchored":
        return reference.isoscore_anchored(points, COV)
    if "estimator" in arguments:
        return 1 - iso.istar_loss(points, estimator="unbiased")
    return reference.isoscore_star(points, arguments.get("shrinkage_cov"), arguments["zeta"])


def slopes(function: object, at: np.ndarray, step: float) -> np.ndarray:
    """Differentiate numerically, by the two-sided differences that err by step⁴ alone."""
    result = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        shift = np.zeros_like(at)
        shift[index] = step
        one, two = ((function(at + k * shift) - function(at - k * shift)) / (2 * k * step) for k in (1, 2))
        result[index] = (4 * one - two) / 3
    return result


def slope_along(points: np.ndarray, arguments: dict[str, object], step: float) -> float:
    """Differentiate the loss in the one direction DIRECTION."""
    direction = direction_of(points)
    values = {k: 1 - score(points + k * step * direction, arguments) for k in (-2, -1, 1, 2)}
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)


@functools.cache
def derivatives(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Differentiate a case's loss, and its slope in one direction, once for both ways."""
    points, _, arguments = cases()[case]
    # Differences err by ε/step (the second ones by ε/step²) and by step⁴ times the fifth derivative.
    gradient = slopes(lambda x: 1 - score(x, arguments), points, 1e-3)
    return gradient, slopes(lambda x: slope_along(x, arguments, 2e-3), points, 2e-3)


@pytest.mark.parametrize(("case", "way"), [*((case, "traced") for case in cases()), *((c, "eager") for c in EAGER)])
def test_value_and_gradients_of_the_global_batch(found: dict[str, np.ndarray], case: str, way: str) -> None:
    points, cut, arguments = cases()[case]
    results = {kind: [found[f"{case}, {way}/{kind}/{i}"] for i in (0, 1)] for kind in ("loss", "gradient", "second")}
    for loss in results["loss"]:
        assert abs(loss - (1 - score(points, arguments))) < 1e-12
    if score(points, arguments) == 0:
        assert not np.concatenate(results["gradient"] + results["second"]).any()
        return
    assert [len(part) for part in results["gradient"]] == [cut, len(points) - cut]
    gradient, second = derivatives(case)
    assert np.allclose(np.concatenate(results["gradient"]), gradient, rtol=0, atol=1e-9)
    assert np.allclose(np.concatenate(results["second"]), second, rtol=0, atol=1e-7)


def test_masked_points_reach_no_replica(found: dict[str, np.ndarray]) -> None:
    arguments = {"shrinkage_cov": COV, "zeta": ZETA}
    for i in (0, 1):
        assert abs(found[f"masked/loss/{i}"] - (1 - score(POINTS[KEPT], arguments))) < 1e-12
    gradient = np.concatenate([found[f"masked/gradient/{i}"] for i in (0, 1)])
    assert not gradient[~KEPT].any()
    expected = slopes(lambda x: 1 - score(x, arguments), POINTS[KEPT], 1e-3)
    assert np.allclose(gradient[KEPT], expected, rtol=0, atol=1e-9)


def test_float32_far_from_zero(found: dict[str, np.ndarray]) -> None:
    points = (POINTS + 100).astype(np.float32).astype(np.float64)
    for i in (0, 1):
        assert found[f"float32/loss/{i}"].dtype == np.float32
        assert abs(found[f"float32/loss/{i}"] - (1 - reference.isoscore_star(np.tile(points, (2, 1))))) < 1e-5


def test_gradients_of_variables_are_those_of_one_device(found: dict[str, np.ndarray]) -> None:
    of_weights = slopes(lambda w: 1 - reference.isoscore_star(POINTS @ w, COV, ZETA), WEIGHTS, 1e-3)
    # Algorithm 1 takes a symmetric Σ_S alone, so both mirror images are moved, and each has half of that slope.
    of_cov = slopes(lambda c: 1 - reference.isoscore_star(POINTS @ WEIGHTS, (c + c.T) / 2, ZETA), COV, 1e-3)
    for i in (0, 1):
        assert np.allclose(found[f"variables/weights/{i}"], of_weights, rtol=0, atol=1e-9)
        assert np.allclose(found[f"variables/cov/{i}"], of_cov, rtol=0, atol=1e-9)


def test_keras_trains_with_the_score_of_the_global_batch(found: dict[str, np.ndarray]) -> None:
    def loss(weights: np.ndarray) -> float:
        return 1 - reference.isoscore_star(POINTS[:10] @ weights, COV, ZETA)

    reported, *weights = found["keras"]
    # Keras adds losses up, and learns, in float32: some ε = 6e-8 of the loss and of the step, which is below 1.
    assert reported == pytest.approx(loss(WEIGHTS), abs=2e-7)
    step = WEIGHTS - np.reshape(weights, (DIM, DIM))
    assert np.allclose(step, 0.5 * slopes(loss, WEIGHTS, 1e-3), rtol=0, atol=2e-7)


def test_tf_keras_is_imported_for_its_placeholders_alone(found: dict[str, np.ndarray]) -> None:
    assert found["imported"].tolist() == [False, True]


def test_outside_of_a_replica_function_it_is_an_error(found: dict[str, np.ndarray]) -> None:
    tf = pytest.importorskip("tensorflow")
    assert "strategy.run" in str(found["error"])
    X = tf.constant(POINTS)
    with pytest.raises(iso.InvalidValueError, match=r"across: .*strategy\.run"):
        iso.isoscore(X, across="replicas")
    for other in ("data", 0, ("replicas",)):
        with pytest.raises(iso.InvalidValueError, match='across: TensorFlow has "replicas"'):
            iso.isoscore(X, across=other)


if __name__ == "__main__":
    main(sys.argv[1])
