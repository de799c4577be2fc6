"""Keras variables and symbolic tensors, and what the layer and the regularizer do outside of `fit`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference

pytest.importorskip("keras")
import keras

from isoscore_star.backends.keras import IStarActivityRegularizer, IStarRegularizer, KerasBackend
from isoscore_star.backends.keras.recorded import RecordedCall

# NumPy's complaint about how torch, inside Keras, copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

BACKEND = iso.get_backend("keras")


def number(x: object) -> float:
    return float(BACKEND.to_numpy(x))


def variable(array: object, dtype: str = "float64") -> object:
    return keras.Variable(np.asarray(array), dtype=dtype, trainable=False)


def test_the_answer_is_a_tensor_of_the_framework_below(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 5))
    score = iso.isoscore(variable(points))
    assert iso.backend_of(variable(points)) is BACKEND
    assert iso.backend_of(score).name == keras.backend.backend()
    assert number(score) == pytest.approx(reference.isoscore_star(points), abs=1e-12)


def test_every_argument_may_be_a_variable(rng: np.random.Generator) -> None:
    points, cov, keep = rng.normal(size=(30, 5)), random_cov(rng, 5), rng.random(30) < 0.7
    loss = iso.istar_loss(
        [variable(points[:9]), variable(points[9:])],
        variable(cov),
        variable(0.25),
        variable(-2.0),
        mask=[variable(keep[:9], "bool"), variable(keep[9:], "int32")],
    )
    expected = -2 * (1 - reference.isoscore_star(points[keep], cov, 0.25))
    assert number(loss) == pytest.approx(expected, abs=1e-12)


def test_scalars_of_the_framework_below_stand_beside_variables(rng: np.random.Generator) -> None:
    points = rng.normal(size=(30, 5))
    lam = keras.ops.convert_to_tensor(3.0, "float64")
    loss = iso.istar_loss(variable(points), None, 0.0, lam)
    assert number(loss) == pytest.approx(3 * (1 - reference.isoscore_star(points)), abs=1e-12)


def test_tensors_of_the_framework_below_stand_beside_variables(rng: np.random.Generator) -> None:
    points, cov = rng.normal(size=(30, 5)), random_cov(rng, 5)

    def tensor(array: np.ndarray) -> object:
        return keras.ops.convert_to_tensor(array, "float64")

    expected = reference.isoscore_star(points, cov, 0.25)
    for clouds in ([variable(points[:9]), tensor(points[9:])], [tensor(points[:9]), variable(points[9:])]):
        assert number(iso.isoscore_star(clouds, tensor(cov), 0.25)) == pytest.approx(expected, abs=1e-12)


def states_input(dim: int = 4, dtype: str = "float64") -> object:
    return keras.Input((dim,), dtype=dtype)


@pytest.mark.parametrize("name", ["isoscore", "isoscore_star", "isoscore_unbiased", "istar_loss"])
def test_symbolic_tensors_become_part_of_the_model(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    points, cov = rng.normal(size=(30, 4)) * [3, 2, 1, 1], random_cov(rng, 4)
    arguments = {"isoscore_star": (cov, 0.3), "istar_loss": (cov, 0.3, -1.5)}.get(name, ())
    function = getattr(iso, name)
    inputs = states_input()
    score = function(inputs, *arguments)
    assert isinstance(score, keras.KerasTensor)
    assert score.shape == ()
    model = keras.Model(inputs, score)
    expected = function(points, *arguments)
    assert number(model(points)) == pytest.approx(expected, abs=1e-12)
    path = tmp_path / "model.keras"
    model.save(path)
    assert number(keras.models.load_model(path)(points)) == pytest.approx(expected, abs=1e-12)


def test_symbolic_arguments(rng: np.random.Generator) -> None:
    points, keep, cov = rng.normal(size=(2, 15, 4)), rng.random((2, 15)) < 0.6, random_cov(rng, 4)
    layers = [keras.Input((15, 4), dtype="float64") for _ in range(2)]
    mask = keras.Input((15,), dtype="bool")
    share = variable(0.0)
    model = keras.Model([*layers, mask], iso.isoscore_star(layers, cov, share, mask=mask))
    union = np.concatenate([points[keep], 3 * points[keep]])
    for zeta in (0.4, 0.9):
        share.assign(zeta)  # a variable stays what it is: the model sees what is assigned to it
        got = number(model([points, 3 * points, keep]))
        assert got == pytest.approx(reference.isoscore_star(union, cov, zeta), abs=1e-12)


def test_the_mask_of_a_symbolic_tensor_counts(rng: np.random.Generator) -> None:
    tokens = rng.integers(0, 6, size=(5, 8))  # 0 is padding
    inputs = keras.Input((8,), dtype="int32")
    embedding = keras.layers.Embedding(6, 4, mask_zero=True, dtype="float64")
    model = keras.Model(inputs, iso.isoscore(embedding(inputs)))
    table = BACKEND.to_numpy(embedding.embeddings)
    assert number(model(tokens)) == pytest.approx(reference.isoscore_star(table[tokens[tokens > 0]]), abs=1e-12)


def test_symbolic_tensors_are_checked_when_the_model_is_made() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"shrinkage_cov: expected shape \(4, 4\)"):
        iso.istar_loss(states_input(), np.eye(3), 0.2)
    with pytest.raises(iso.InvalidValueError, match="none was given"):
        iso.istar_loss(states_input(), zeta=0.2)
    with pytest.raises(iso.InvalidTypeError, match="has no values yet"):
        iso.Moments().update(states_input())
    with pytest.raises(iso.InvalidValueError, match="function: expected one of"):
        RecordedCall("measure", {}, {})


def test_a_recorded_loss_trains_as_an_output(rng: np.random.Generator) -> None:
    points = rng.normal(size=(32, 6)).astype("float32")
    inputs = keras.Input((6,))
    states = keras.layers.Dense(4)(inputs)
    penalty = keras.ops.reshape(iso.istar_loss(states, estimator="unbiased"), (1,))  # fit wants an axis
    outputs = {"task": keras.layers.Dense(1)(states), "penalty": penalty}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"task": "mse", "penalty": lambda _, penalty: penalty})
    targets = {"task": points[:, :1], "penalty": points[:, 0]}
    expected = number(model(points)["penalty"][0])
    history = model.fit(points, targets, batch_size=32, epochs=1, verbose=0).history
    assert history["penalty_loss"][0] == pytest.approx(expected, abs=1e-5)  # float32


@pytest.mark.slow
def test_keras_on_numpy_and_on_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; os.environ['KERAS_BACKEND'] = 'numpy'\n"
        "import keras, numpy as np, isoscore_star as iso\n"
        "X = keras.Variable(np.eye(3), dtype='float64', trainable=False)\n"
        "print(type(iso.isoscore(X)).__name__)\n"
        "print(abs(iso.isoscore(X) - iso.isoscore(np.eye(3))) < 1e-15)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["float", "True"]
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(iso.InvalidValueError, match=r"KERAS_BACKEND: expected one of tensorflow.*openvino"):
        KerasBackend()


# The layer


def layer_loss(layer: object, inputs: object, **kwargs: object) -> float:
    layer(inputs, **kwargs)
    (loss,) = layer.losses
    return number(loss)


@pytest.mark.parametrize("shape", [(30, 5), (3, 5), (4, 7, 5)])
@pytest.mark.parametrize("lam", [2.0, 0.0, -3.0])
def test_the_layer_adds_lam_times_one_minus_score(rng: np.random.Generator, shape: tuple[int, ...], lam: float) -> None:
    states, cov = rng.normal(size=shape), random_cov(rng, 5)
    expected = lam * (1 - reference.isoscore_star(states.reshape(-1, 5), cov, 0.25))
    layer = IStarRegularizer(lam, 0.25, shrinkage_cov=cov, dtype="float64")
    assert layer_loss(layer, states) == pytest.approx(expected, abs=1e-12)
    layer = IStarRegularizer(lam, 0.0, dtype="float64")
    expected = lam * (1 - reference.isoscore_star(states.reshape(-1, 5)))
    assert layer_loss(layer, states) == pytest.approx(expected, abs=1e-12)


def test_the_unbiased_estimator_needs_no_cov(rng: np.random.Generator) -> None:
    states = rng.normal(size=(30, 5))
    layer = IStarRegularizer(2.0, estimator="unbiased", dtype="float64")
    assert layer_loss(layer, states) == pytest.approx(2 * (1 - iso.isoscore_unbiased(states)), abs=1e-12)
    assert layer.shrinkage_cov is None


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_narrow_policies_compute_in_float32(rng: np.random.Generator, dtype: str) -> None:
    # 300 standard deviations in one dimension: float16 squares overflow, bfloat16 sums lose everything.
    states = keras.ops.cast(rng.normal(size=(400, 16)) * np.r_[300.0, np.ones(15)], dtype.removeprefix("mixed_"))
    rounded = BACKEND.to_numpy(keras.ops.cast(states, "float64"))
    cov = np.diag(np.r_[9e4, np.ones(15)])
    layer = IStarRegularizer(1.0, 0.3, shrinkage_cov=cov, dtype=dtype)
    assert layer_loss(layer, states) == pytest.approx(1 - reference.isoscore_star(rounded, cov, 0.3), abs=1e-5)
    assert {str(w.dtype) for w in layer.weights} == {"float32"}
    (loss,) = layer.losses
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_the_input_passes_unchanged(rng: np.random.Generator) -> None:
    tensor = keras.ops.convert_to_tensor(rng.normal(size=(6, 4)), "float64")
    layer = IStarRegularizer(estimator="unbiased")  # of a float32 policy: not even the dtype changes
    assert layer(tensor) is tensor
    for several in ([tensor, tensor], (tensor, tensor)):
        passed = IStarRegularizer(estimator="unbiased")(several)
        assert type(passed) is type(several)
        assert all(a is tensor for a in passed)
    inputs = [keras.Input((3, 4)), keras.Input((5, 4), dtype="float16")]
    symbolic = IStarRegularizer(estimator="unbiased")(inputs)
    assert [(x.shape, x.dtype) for x in symbolic] == [((None, 3, 4), "float32"), ((None, 5, 4), "float16")]


def test_a_list_is_a_union_with_its_masks(rng: np.random.Generator) -> None:
    layers = [rng.normal(size=(4, tokens, 5)) for tokens in (6, 8)]
    keep = [rng.random(layer.shape[:2]) < 0.6 for layer in layers]
    points = np.concatenate([layer[k] for layer, k in zip(layers, keep, strict=True)])
    noisy = [np.where(k[..., None], layer, np.nan) for layer, k in zip(layers, keep, strict=True)]
    regularizer = IStarRegularizer(1.0, 0.0, dtype="float64")
    got = layer_loss(regularizer, noisy, mask=keep)
    assert got == pytest.approx(1 - reference.isoscore_star(points), abs=1e-12)


def test_the_gate_of_training(rng: np.random.Generator) -> None:
    states = rng.normal(size=(9, 4))
    for in_evaluation, training, expected in [
        (False, False, 0),
        (False, True, 1),
        (False, None, 1),
        (True, False, 1),
        (True, True, 1),
    ]:
        layer = IStarRegularizer(1.0, 0.0, in_evaluation=in_evaluation)
        layer(states, training=training)
        assert len(layer.losses) == expected


@pytest.mark.parametrize("zeta", [0.0, 0.3])
@pytest.mark.parametrize("rows", [1, 2])
def test_degenerate_batches_are_never_nan(zeta: float, rows: int) -> None:
    cov = np.diag([1.0, 2.0, 3.0, 4.0])
    for states in (np.full((rows, 4), 7.0), np.zeros((rows, 4))):
        layer = IStarRegularizer(1.0, zeta, shrinkage_cov=cov, dtype="float64")
        expected = 1 - (iso.isoscore_from_cov(cov) if zeta else 0.0)
        assert layer_loss(layer, states) == pytest.approx(expected, abs=1e-12)


def test_the_running_average_follows_the_batches(rng: np.random.Generator) -> None:
    decay = 0.75
    layer = IStarRegularizer(1.0, 0.5, running_average=decay, dtype="float64")
    weights, covs = [], []
    for rows in (20, 1, 30, 10):
        points, keep = rng.normal(size=(rows, 3)) * [1, 2, 3] + 100, np.ones(rows)
        keep[: rows // 4] = 0
        loss = layer_loss(layer, np.where(keep[:, None] > 0, points, np.nan), mask=keep > 0)
        if rows > 1:  # a batch without a covariance takes no part
            covs.append(np.cov(points[keep > 0].T))
            weights = [w * decay for w in weights] + [1 - decay]
            average = np.average(covs, axis=0, weights=weights)
            expected = reference.isoscore_star(points[keep > 0], average, 0.5)
        else:
            expected = iso.isoscore_from_cov(average)
        assert loss == pytest.approx(1 - expected, abs=1e-11)
        assert np.allclose(BACKEND.to_numpy(layer.shrinkage_cov), average, rtol=1e-11, atol=0)
    layer(points, training=False)
    assert np.allclose(BACKEND.to_numpy(layer.shrinkage_cov), average, rtol=1e-11, atol=0)
    layer.set_shrinkage_cov(np.eye(3))
    layer(points)
    expected = decay * np.eye(3) + (1 - decay) * np.cov(points.T)
    assert np.allclose(BACKEND.to_numpy(layer.shrinkage_cov), expected, rtol=1e-11, atol=1e-11)


def test_a_missing_cov_is_named_before_anything_is_trained(rng: np.random.Generator) -> None:
    states = rng.normal(size=(9, 4))
    layer = IStarRegularizer(1.0, 0.2, name="here")
    with pytest.raises(iso.InvalidValueError, match=r"zeta=0.2.*'here' was given none.*set_shrinkage_cov.*unbiased"):
        layer(states)
    layer(states, training=False)
    layer.set_shrinkage_cov(np.eye(4))
    assert layer_loss(layer, states) == pytest.approx(1 - iso.isoscore_star(states, np.eye(4), 0.2), abs=1e-6)
    early = IStarRegularizer(1.0, 0.2)
    early.set_shrinkage_cov(np.eye(4))  # before it is built
    assert layer_loss(early, states) == layer_loss(layer, states)


def test_zeta_0_keeps_no_cov_unless_told(rng: np.random.Generator) -> None:
    states = rng.normal(size=(9, 4))
    plain = IStarRegularizer(1.0, 0.0)
    plain(states)
    assert (plain.shrinkage_cov, plain.zeta) == (None, 0.0)
    with pytest.raises(iso.InvalidValueError, match=r'mixes none in.*shrinkage_cov="later"'):
        plain.set_shrinkage_cov(np.eye(4))
    scheduled = IStarRegularizer(1.0, 0.0, shrinkage_cov="later", dtype="float64")
    scheduled.set_shrinkage_cov(np.eye(4))
    assert layer_loss(scheduled, states) == pytest.approx(1 - iso.isoscore(states), abs=1e-12)
    scheduled.zeta.assign(0.5)
    assert layer_loss(scheduled, states) == pytest.approx(1 - iso.isoscore_star(states, np.eye(4), 0.5), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lam": "1"}, "lam: expected a finite number"),
        ({"lam": float("nan")}, "lam: expected a finite number"),
        ({"zeta": 1.5}, r"zeta: expected a number in \[0, 1\]"),
        ({"estimator": "best"}, "estimator: expected one of 'shrinkage', 'unbiased'"),
        ({"shrinkage_cov": "soon"}, "shrinkage_cov: expected one of 'later'"),
        ({"shrinkage_cov": np.ones((2, 3))}, "shrinkage_cov: expected a square matrix"),
        ({"shrinkage_cov": -np.eye(3)}, "shrinkage_cov: variances"),
        ({"running_average": 1}, r"running_average: expected a number in \[0, 1\)"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        IStarRegularizer(**arguments)
    if not {"running_average", "later"} & {*arguments, *message.split("'")}:
        with pytest.raises(iso.IsoScoreError, match=message):
            IStarActivityRegularizer(**arguments)


def test_bad_inputs() -> None:
    with pytest.raises(iso.InvalidValueError, match="expected points as rows"):
        IStarRegularizer(estimator="unbiased")(keras.Input((None,)))
    with pytest.raises(iso.InvalidValueError, match="same number of dimensions"):
        IStarRegularizer(estimator="unbiased")([keras.Input((3,)), keras.Input((4,))])
    with pytest.raises(iso.InvalidTypeError, match="got a dict"):
        IStarRegularizer(estimator="unbiased")({"a": keras.Input((3,))})
    with pytest.raises(iso.InvalidValueError, match="at least 2 dimensions"):
        IStarRegularizer(estimator="unbiased")(keras.Input((1,)))
    with pytest.raises(iso.InvalidValueError, match=r"shrinkage_cov: expected shape \(3, 3\)"):
        IStarRegularizer(shrinkage_cov=np.eye(4))(keras.Input((3,)))


def test_the_configuration_makes_the_same_layer() -> None:
    layer = IStarRegularizer(-2.0, 0.4, shrinkage_cov="later", running_average=0.9, in_evaluation=True, name="it")
    config = layer.get_config()
    assert config == config | {"lam": -2.0, "zeta": 0.4, "shrinkage_cov": "later", "running_average": 0.9}
    assert config["in_evaluation"] is True
    assert IStarRegularizer.from_config(config).get_config() == config
    regularizer = IStarActivityRegularizer(-2.0, 0.4, shrinkage_cov=np.diag([1.0, 2.0]))
    copied = keras.regularizers.deserialize(keras.regularizers.serialize(regularizer))
    assert np.array_equal(copied.shrinkage_cov, np.diag([1.0, 2.0]))
    assert (copied.lam, copied.zeta, copied.estimator) == (-2.0, 0.4, "shrinkage")


def test_the_activity_regularizer_needs_its_cov_at_once() -> None:
    with pytest.raises(iso.InvalidValueError, match="none was given"):
        IStarActivityRegularizer(zeta=0.2)
    assert IStarActivityRegularizer(zeta=0.2, estimator="unbiased").shrinkage_cov is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf_keras takes layers of Keras on TensorFlow only")
def test_a_tf_keras_model_is_refused() -> None:
    tf_keras = pytest.importorskip("tf_keras")
    regularizer = IStarRegularizer(estimator="unbiased")
    with pytest.raises(iso.InvalidTypeError, match="would be trained without its loss"):
        regularizer(tf_keras.layers.Dense(3)(tf_keras.Input((4,))))

    class Subclassed(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.regularizer = IStarRegularizer(estimator="unbiased")

        def call(self, x: object) -> object:
            return self.regularizer(x)

    with pytest.raises(iso.InvalidTypeError, match="would be trained without its loss"):
        Subclassed()(np.ones((5, 3), "float32"))
    # Beside tf_keras it works.
    points = np.eye(5)[:, :4]
    assert layer_loss(IStarRegularizer(zeta=0.0), points) == pytest.approx(1 - iso.isoscore(points), abs=1e-6)
