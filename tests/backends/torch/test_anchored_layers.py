"""The anchored estimator layer by layer: each has a covariance of its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch import IStarLoss  # noqa: E402

DIM, LAYERS = 16, 3


def layers(seed: int) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    spreads = [torch.linspace(0.2, 1 + place, DIM) for place in range(LAYERS)]
    return [(torch.randn(8, 5, DIM, generator=generator) * spread).requires_grad_() for spread in spreads]


MASK = torch.ones(8, 5, dtype=torch.bool)
MASK[3:, 2:] = False


@pytest.mark.parametrize("more", [{}, {"rank": 4}, {"target": 0.5}, {"zeta": 0.5, "lam": -1.0, "floor": 0.1}])
@pytest.mark.parametrize("places", [None, [2, 0]])
def test_as_a_loss_of_each_layer(places: list[int] | None, more: dict[str, Any]) -> None:
    together = IStarLoss(DIM, estimator="anchored", reduction="none", layers=places, **more)
    mean = IStarLoss(DIM, estimator="anchored", reduction="mean", layers=places, **more)
    chosen = range(LAYERS) if places is None else places
    alone = [IStarLoss(DIM, estimator="anchored", layers=[place], **more) for place in chosen]
    for step in range(4):
        states = layers(step)
        losses = torch.stack([loss(states, MASK) for loss in alone])
        wanted = torch.autograd.grad(losses.sum(), states, allow_unused=True)
        got = together(states, MASK)
        # Each score is 1 - (1 - score) once more: two roundings of 2⁻²⁴, which log PR/PR* and its square pass on.
        assert torch.allclose(got, losses, rtol=0, atol=2e-6)
        assert mean(states, MASK).item() == pytest.approx(losses.mean().item(), abs=2e-6)
        for ours, theirs in zip(torch.autograd.grad(got.sum(), states, allow_unused=True), wanted, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    logs = [loss.collect() for loss in alone]
    logged = together.collect()
    for place, own in zip(chosen, logs, strict=True):
        assert logged[f"isoscore_star/layer_{place:02d}"] == own["isoscore_star"]
    assert logged["isoscore_star"] == pytest.approx(sum(own["isoscore_star"] for own in logs) / len(logs))
    assert logged["istar_penalty"] == pytest.approx(sum(own["istar_penalty"] for own in logs) / len(logs), abs=2e-6)


def test_a_saved_one_goes_on() -> None:
    going = IStarLoss(DIM, estimator="anchored", reduction="none")
    for step in range(3):
        going(layers(step))
    resumed = IStarLoss(DIM, estimator="anchored", reduction="none")
    resumed.load_state_dict(going.state_dict())
    copied = copy.deepcopy(going)
    for step in range(3, 5):
        wanted = going(layers(step))
        assert torch.equal(resumed(layers(step)), wanted)
        assert torch.equal(copied(layers(step)), wanted)


def test_settings_may_change_and_evaluation_learns_nothing() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean")
    penalty(layers(0))
    penalty.eval()
    penalty.zeta, penalty.lam = 0.7, 3.0
    before = copy.deepcopy(penalty.state_dict())
    loss = penalty(layers(1))
    assert [own.zeta for own in penalty.by_layer.losses] == [0.7] * LAYERS
    assert all(torch.equal(value, before[name]) for name, value in penalty.state_dict().items())
    penalty.lam = 1.0
    assert loss.item() == pytest.approx(3 * penalty(layers(1)).item(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
def test_compiled_whole_with_known_layers() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean", layers=[0, 1, 2])
    plain = copy.deepcopy(penalty)
    compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
    for step in range(2):
        assert compiled(layers(step)).item() == pytest.approx(plain(layers(step)).item(), abs=2e-6)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(iso.InvalidValueError, match="a running covariance for each layer") as caught:
        IStarLoss(DIM, shrinkage_cov=torch.eye(DIM), estimator="anchored", reduction="mean")
    assert caught.value.argument == "shrinkage_cov"
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean")
    with pytest.raises(iso.InvalidValueError, match="shrinkage_cov"):
        penalty.set_shrinkage_cov(torch.eye(DIM))
    penalty(layers(0))
    with pytest.raises(iso.InvalidValueError, match=r"same layers as before.*\[0, 1, 2\]; got \[0, 1\]"):
        penalty(layers(1)[:2])
    with pytest.raises(iso.InvalidValueError, match=r"got \[1, 2, 3\]"):
        penalty([None, *layers(1)])
    penalty.shrinkage_cov = torch.eye(DIM)
    with pytest.raises(iso.InvalidValueError, match="a running covariance for each layer"):
        penalty(layers(1))


def test_a_first_call_that_fails_decides_nothing() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean").eval()
    with pytest.raises(iso.InvalidValueError, match="no covariance yet"):
        penalty(layers(0)[:2])
    assert penalty.train()(layers(0)).isfinite()


def test_what_is_loaded_decides_the_layers() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean")
    untrained = copy.deepcopy(penalty.state_dict())
    penalty(layers(0))
    trained = copy.deepcopy(penalty.state_dict())
    resting = IStarLoss(DIM, estimator="anchored", reduction="mean").eval()
    resting.load_state_dict(trained)
    resting(layers(1))
    assert all(torch.equal(value, trained[name]) for name, value in resting.state_dict().items())
    penalty.load_state_dict(untrained)
    assert penalty.state_dict().keys() == untrained.keys()
    assert penalty(layers(0)[:2]).isfinite()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        IStarLoss(DIM, estimator="anchored", reduction="mean", layers=[0, 2]).load_state_dict(trained)


def test_a_batch_that_is_refused_teaches_no_layer() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean", check_values=True)
    with pytest.raises(iso.InvalidValueError, match="mask: expected only zeros and ones"):
        penalty(layers(0), [MASK, MASK, 0.5 * MASK])
    assert not penalty.by_layer.losses
    assert penalty(layers(0), MASK).isfinite()


def test_a_rank_alone_exchanges_nothing() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean", sync=False)
    penalty(layers(0))
    assert all(own.sync is False and own.shrinkage.sync is False for own in penalty.by_layer.losses)


def test_a_collapse_is_of_a_layer(caplog: pytest.LogCaptureFixture) -> None:
    penalty = IStarLoss(DIM, estimator="anchored", reduction="mean")
    penalty(layers(0))
    penalty.collect()
    thin = torch.zeros(DIM)
    thin[0] = 1
    # The average halves what it knew at each step, and is compared with a tenth of the start.
    for step in range(16):
        penalty([state if place != 1 else state * thin for place, state in enumerate(layers(step))])
        penalty.collect()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["isoscore_star/layer_01"]
