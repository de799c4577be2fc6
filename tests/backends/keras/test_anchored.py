"""The anchored estimator of `IStarRegularizer`, outside of `fit`: loss, gradient, trust test, running Σ_S and log."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import get_backend, reference

pytest.importorskip("keras")
import keras
from support_keras import BACKEND, loss_and_gradients, numpy

from isoscore_star.backends.keras import IStarRegularizer

# NumPy's complaint about how torch, inside Keras, copies a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DIM = 6
SPREAD = np.linspace(0.2, 3, DIM) ** 1.5


def batch(seed: int, sequences: int = 20, tokens: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(sequences, tokens, DIM)) * SPREAD


def covariance(states: np.ndarray) -> np.ndarray:
    return np.cov(states.reshape(-1, DIM).T)


def compared(states: np.ndarray, known: np.ndarray) -> float:
    """s(S, Σ_S) of a batch and a Σ_S that is independent of it."""
    own = covariance(states)
    return float((np.trace(own) * np.trace(known) / np.sum(own * known) - 1) / (DIM - 1))


def loss_of(layer: Any, states: Any, **arguments: Any) -> float:
    layer(states, **arguments)
    (loss,) = layer.losses
    return float(numpy(loss))


def expected(
    states: Any, *arguments: Any, estimator: str = "anchored", **others: Any
) -> tuple[float, list[np.ndarray]]:
    """Compute loss and gradients by the function, which has no memory."""
    return loss_and_gradients(
        lambda tensors: iso.istar_loss(tensors, *arguments, estimator=estimator, **others), states
    )


def after_a_batch(layer: Any) -> Any:
    """Show the layer a batch, by which its trust test judges the next one."""
    layer(batch(7), training=True)
    return layer


NEAR, FAR = np.diag(SPREAD**2 * 1.1), np.diag(SPREAD[::-1] ** 2)


@pytest.mark.parametrize("lam", [2.0, -1.0])
@pytest.mark.parametrize(("cov", "estimator"), [(NEAR, "anchored"), (FAR, "shrinkage")])
def test_loss_and_gradient_are_those_of_the_function(cov: np.ndarray, estimator: str, lam: float) -> None:
    layer = after_a_batch(IStarRegularizer(lam, 0.3, "anchored", cov, dtype="float64"))
    assert layer.trusted == (estimator == "anchored")
    loss, gradients = loss_and_gradients(layer, [batch(0)])
    value, slopes = expected([batch(0)], cov, 0.3, lam, estimator=estimator)
    assert loss == pytest.approx(value, abs=1e-12)
    assert np.abs(gradients[0] - slopes[0]).max() <= 1e-10 * np.abs(slopes[0]).max()


@pytest.mark.parametrize(("cov", "estimator"), [(NEAR, "anchored"), (FAR, "shrinkage")])
def test_a_compiled_call_chooses_too(cov: np.ndarray, estimator: str) -> None:
    layer = after_a_batch(IStarRegularizer(2.0, 0.3, "anchored", cov, dtype="float64"))
    loss, gradients = loss_and_gradients(layer, [batch(0)], compiled=True)
    value, slopes = expected([batch(0)], cov, 0.3, 2.0, estimator=estimator)
    assert loss == pytest.approx(value, abs=1e-12)
    assert np.abs(gradients[0] - slopes[0]).max() <= 1e-10 * np.abs(slopes[0]).max()


@pytest.mark.parametrize(("cov", "estimator"), [(NEAR, "anchored"), (FAR, "shrinkage")])
def test_of_a_union_what_is_masked_counts_for_nothing(cov: np.ndarray, estimator: str) -> None:
    layers, rng = [batch(0), batch(1, tokens=5)], np.random.default_rng(2)
    masks = [rng.random(layer.shape[:2]) < 0.7 for layer in layers]
    noisy = [np.where(keep[..., None], layer, np.nan) for layer, keep in zip(layers, masks, strict=True)]
    layer = after_a_batch(IStarRegularizer(1.0, 0.3, "anchored", cov, dtype="float64"))
    loss, gradients = loss_and_gradients(layer, noisy, mask=masks)
    value, slopes = expected(layers, cov, 0.3, estimator=estimator, mask=masks)
    assert loss == pytest.approx(value, abs=1e-12)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert np.abs(gradient - slope).max() <= 1e-10 * np.abs(slope).max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("cov", "estimator"), [(NEAR, "anchored"), (FAR, "shrinkage")])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_half_precision_is_computed_in_float32(dtype: str, cov: np.ndarray, estimator: str, compiled: bool) -> None:
    states = keras.ops.cast(batch(0), dtype)
    rounded = numpy(states)
    # Far below what half precision holds, were the gradient rounded before it is scaled.
    layer = after_a_batch(IStarRegularizer(1e4, 0.3, "anchored", cov, dtype=f"mixed_{dtype}"))
    loss, (gradient,) = loss_and_gradients(layer, [states], compiled=compiled)
    value, (slope,) = expected([rounded], cov, 0.3, 1e4, estimator=estimator)
    assert loss == pytest.approx(value, rel=1e-5)
    assert np.abs(gradient - slope).max() <= 2.0**-7 * np.abs(slope).max()
    assert {str(weight.dtype) for weight in layer.weights} == {"float32"}


def test_the_batch_is_compared_with_those_before_it() -> None:
    layer = IStarRegularizer(estimator="anchored", dtype="float64")
    first, second = batch(0), batch(1)
    own = reference.isoscore_star(first.reshape(-1, DIM))
    assert loss_of(layer, first) == pytest.approx(1 - own, abs=1e-12)  # before which there is none
    known = numpy(layer.shrinkage_cov)
    assert np.allclose(known, covariance(first), rtol=1e-12, atol=1e-12)
    loss, (gradient,) = loss_and_gradients(layer, [second])
    assert loss == pytest.approx(1 - compared(second, known), abs=1e-12)
    _, (slope,) = expected([second], known)
    assert np.abs(gradient - slope).max() <= 1e-10 * np.abs(slope).max()
    # The newer batch counts twice, as in an average that began before.
    assert np.allclose(numpy(layer.shrinkage_cov), (known + 2 * covariance(second)) / 3, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_running_covariance_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    from isoscore_star.backends.torch import ShrinkageCovariance

    theirs = ShrinkageCovariance(DIM, "running", decay=0.5, batch_points=512)
    layer = IStarRegularizer(estimator="anchored", dtype="float64")
    rng = np.random.default_rng(0)
    # Batches and sequences of any length, of more states than 512, of one, and of none that is unmasked.
    for seed, (sequences, tokens) in enumerate([(8, 100), (5, 3), (1, 1), (4, 7), (2, 600)]):
        states, keep = batch(seed, sequences, tokens), rng.random((sequences, tokens)) < (0.8 if seed != 3 else 0)
        layer(states, mask=keep)
        theirs.update([torch.from_numpy(states)], [torch.from_numpy(keep)])
        assert np.allclose(numpy(layer.shrinkage_cov), theirs.current().numpy(), rtol=1e-11, atol=1e-12)
        assert float(numpy(layer._averaged)) == pytest.approx(float(theirs.averaged), abs=1e-15)


def test_a_batch_that_is_not_finite_is_left_out_of_it() -> None:
    layer = IStarRegularizer(estimator="anchored", dtype="float64")
    layer(batch(0))
    before = numpy(layer.shrinkage_cov)
    layer(np.full((4, 5, DIM), np.nan))
    assert np.array_equal(numpy(layer.shrinkage_cov), before)


def test_it_begins_anew_with_the_batch_that_is_far() -> None:
    layer = IStarRegularizer(1.0, 0.3, "anchored", running_average=0.99, dtype="float64")
    layer(batch(0))
    turned = batch(1)[..., ::-1].copy()  # what had most variance has least
    layer(turned)
    assert np.allclose(numpy(layer.shrinkage_cov), covariance(turned), rtol=1e-12, atol=1e-12)
    following = batch(2)[..., ::-1].copy()
    near = reference.isoscore_anchored(following.reshape(-1, DIM), covariance(turned))
    assert loss_of(layer, following) == pytest.approx(1 - near, abs=1e-12)
    assert layer.trusted


def test_a_loss_with_a_constant_covariance_is_that_of_torch_step_by_step() -> None:
    torch = pytest.importorskip("torch")
    from isoscore_star.backends.torch import IStarLoss

    layer = IStarRegularizer(1.0, 0.3, "anchored", NEAR, dtype="float64")
    theirs = IStarLoss(DIM, 1.0, 0.3, NEAR, "anchored").double()
    trusted = []
    for seed in range(14):  # near, away, and back
        states = batch(seed) if seed < 2 or seed > 4 else batch(seed)[..., ::-1].copy()
        assert loss_of(layer, states) == pytest.approx(theirs(torch.from_numpy(states)).item(), abs=1e-6)
        trusted.append(layer.trusted)
    assert (trusted[1], trusted[4], trusted[-1]) == (True, False, True)


def test_a_small_batch_alone_does_not_trip_the_test() -> None:
    layer = IStarRegularizer(1.0, 0.3, "anchored", NEAR, dtype="float64")
    for seed in range(5):
        layer(batch(seed))
    layer(batch(9, sequences=1, tokens=2) * SPREAD[::-1])
    assert layer.trusted
    for seed in range(20):
        layer(batch(seed)[..., ::-1].copy())
    assert not layer.trusted
    layer.set_shrinkage_cov(FAR)  # near them
    layer(batch(0)[..., ::-1].copy())
    assert layer.trusted


def test_in_evaluation_nothing_is_learned() -> None:
    layer = IStarRegularizer(estimator="anchored", in_evaluation=True, dtype="float64")
    own = reference.isoscore_star(batch(0).reshape(-1, DIM))
    assert loss_of(layer, batch(0), training=False) == pytest.approx(1 - own, abs=1e-12)  # which has no Σ_S yet
    layer(batch(0))
    before = [numpy(weight) for weight in (layer.shrinkage_cov, layer._averaged, layer._sides)]
    value = compared(batch(1), covariance(batch(0)))
    assert loss_of(layer, batch(1), training=False) == pytest.approx(1 - value, abs=1e-12)
    after = [numpy(weight) for weight in (layer.shrinkage_cov, layer._averaged, layer._sides)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_score_to_log_is_that_of_two_halves() -> None:
    layer = IStarRegularizer(3.0, estimator="anchored", dtype="float64")
    products = []
    for seed in range(3):
        states = batch(seed, sequences=9 + seed, tokens=100)
        layer(states)
        sampled = get_backend("numpy").some_along(states, 1, 512, states.shape[0] * 100)
        halves = [covariance(sampled[half::2]) for half in (0, 1)]
        a, b = (half / np.trace(half) for half in halves)
        products.append((len(states), len(states) * np.sum(a * b)))
    ratio = sum(product[0] for product in products) / sum(product[1] for product in products)
    assert layer.mean_score() == pytest.approx((ratio - 1) / (DIM - 1), abs=1e-12)


def test_of_fewer_than_four_sequences_there_is_a_loss_but_no_score_to_log() -> None:
    layer = IStarRegularizer(estimator="anchored", dtype="float64")
    assert 0 < loss_of(layer, batch(0, sequences=3)) < 1
    assert layer.mean_score() is None


def test_rows_are_groups_of_the_score_to_log() -> None:
    points = batch(0).reshape(-1, DIM)
    layer = IStarRegularizer(estimator="anchored", dtype="float64")
    layer(points)
    assert layer.mean_score() == pytest.approx(iso.isoscore_unbiased(points, groups=0), abs=1e-12)


def test_degenerate_batches_are_never_nan() -> None:
    layer = IStarRegularizer(1.0, 0.3, "anchored", dtype="float64")
    for states in (np.zeros((1, 1, DIM)), np.full((4, 5, DIM), 7.0), batch(0), np.full((4, 5, DIM), 7.0)):
        loss, gradients = loss_and_gradients(layer, [states])
        assert np.isfinite(loss)
        assert np.isfinite(gradients[0]).all()
    assert np.isfinite(numpy(layer.shrinkage_cov)).all()


def test_a_covariance_that_was_announced_has_to_be_set() -> None:
    layer = IStarRegularizer(estimator="anchored", shrinkage_cov="later", name="here")
    with pytest.raises(iso.InvalidValueError, match=r"set later.*'here' was given none.*leave shrinkage_cov out"):
        layer(batch(0))
    layer.set_shrinkage_cov(NEAR)
    assert 0 < loss_of(layer, batch(0)) < 1


@pytest.mark.parametrize(
    "arguments",
    [{}, {"shrinkage_cov": NEAR}, {"running_average": 0.9}, {"shrinkage_cov": NEAR, "running_average": 0.9}],
)
def test_the_configuration_makes_the_same_layer(arguments: dict[str, Any]) -> None:
    layer = IStarRegularizer(-2.0, 0.4, "anchored", **arguments)
    again = IStarRegularizer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    layer.build((None, DIM))
    again.build((None, DIM))
    assert [weight.name for weight in again.weights] == [weight.name for weight in layer.weights]


def test_other_estimators_keep_no_more_weights_than_before() -> None:
    layers = [IStarRegularizer(shrinkage_cov=random_cov(np.random.default_rng(0), DIM)), IStarRegularizer(zeta=0.0)]
    for layer in layers:
        layer.build((None, DIM))
    names = [[weight.name for weight in layer.weights] for layer in layers]
    assert names == [
        ["lam", "zeta", "score_total", "score_rows", "shrinkage_cov"],
        ["lam", "score_total", "score_rows"],
    ]
    assert BACKEND.to_numpy(layers[0].zeta) == np.float32(0.2)
