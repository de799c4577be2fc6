"""Holding on to the model: targets, floors, schedules, chosen layers, and what the loss tells of itself."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance  # noqa: E402


def anisotropic(dim: int = 8, rows: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    return (points * torch.linspace(0.2, 2, dim, dtype=torch.float64)).requires_grad_()


def score_of(points: torch.Tensor) -> float:
    return float(iso.isoscore(points.detach()))


def train(points: torch.Tensor, penalty: IStarLoss, steps: int = 300, optimizer: object = None) -> float:
    optimizer = torch.optim.Adam([points], lr=0.02) if optimizer is None else optimizer
    for _ in range(steps):
        optimizer.zero_grad()
        penalty(points).backward()
        optimizer.step()
    return score_of(points)


@pytest.mark.parametrize("target", [0.05, 0.3, 0.9])
def test_the_score_goes_to_the_target_and_rests_there(target: float) -> None:
    points = anisotropic()
    assert min(abs(score_of(points) - t) for t in (0.05, 0.3, 0.9)) > 0.1  # it starts between the targets
    # Adam's steps of 0.02 end in a valley of about that width relative to points of size 1.
    assert train(points, IStarLoss(8, zeta=0.0, target=target), 600) == pytest.approx(target, rel=0.01)


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_the_gradient_at_the_target_is_zero_and_points_to_it_on_either_side(estimator: str) -> None:
    points = anisotropic()
    measured = iso.isoscore if estimator == "shrinkage" else iso.isoscore_unbiased
    score = float(measured(points.detach()))
    (upward,) = torch.autograd.grad(measured(points), points)
    for target, sign in ((score, 0), (score * 1.2, -1), (score * 0.8, 1)):
        (gradient,) = torch.autograd.grad(IStarLoss(8, 2.0, 0.0, estimator=estimator, target=target)(points), points)
        ratio = (1 + 7 * score) / (1 + 7 * target)
        slope = 2 * 2 * math.log(ratio) * 7 / (1 + 7 * score)  # d(2·log(PR/PR*)²)/d(score), by hand
        assert np.sign(round(slope, 12)) == sign
        # 1e-12 is the float64 rounding of a sum of 64 products, relative to the gradient's size.
        assert torch.allclose(gradient, slope * upward, rtol=1e-12, atol=1e-12 * float(upward.abs().max()))


def test_every_target_is_finite_even_at_the_ends() -> None:
    line = torch.outer(torch.arange(6, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    for points in (line, torch.zeros(6, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)):
        for target in (0.0, 1.0):
            leaf = points.clone().requires_grad_()
            loss = IStarLoss(4, zeta=0.0, target=target)(leaf)
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(leaf.grad).all()


def test_the_pull_stops_at_the_floor() -> None:
    falling, held = anisotropic(), anisotropic()
    assert train(falling, IStarLoss(8, -1.0, 0.0)) < 0.1
    end = train(held, IStarLoss(8, -1.0, 0.0, floor=0.3), 2000, torch.optim.SGD([held], lr=0.5))
    # Without momentum only the last step, from just above the floor, goes below: by rate·‖gradient‖² to first order.
    (slope,) = torch.autograd.grad(iso.isoscore(held), held)
    last_step = 0.5 * float(slope.square().sum())
    assert 0.3 - 2 * last_step < end <= 0.3
    assert 2 * last_step < 0.02
    (gradient,) = torch.autograd.grad(IStarLoss(8, -1.0, 0.0, floor=0.9)(held), held)
    assert not gradient.any()


def test_directions_that_contradict_each_other() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"target.*lam=-1"):
        IStarLoss(8, -1.0, target=0.3)
    with pytest.raises(iso.InvalidValueError, match=r"floor.*lam=1"):
        IStarLoss(8, 1.0, floor=0.3)
    with pytest.raises(iso.InvalidValueError, match=r"target: expected a number in \[0, 1\]"):
        IStarLoss(8, target=1.5)
    with pytest.raises(iso.InvalidValueError, match="sync"):
        IStarLoss(8, sync="always")
    penalty = IStarLoss(8, zeta=0.0, target=0.3)
    penalty.lam = -1.0
    with pytest.raises(iso.InvalidValueError, match=r"target.*lam=-1"):
        penalty(anisotropic())


def test_chosen_layers() -> None:
    states = [anisotropic(rows=20 + i) for i in range(4)]
    chosen = IStarLoss(8, zeta=0.0, layers=[1, -1], skip_embeddings=True)(states)
    assert torch.equal(chosen, iso.istar_loss([states[1], states[3]], zeta=0.0))
    with pytest.raises(iso.InvalidValueError, match="there is no entry 4"):
        IStarLoss(8, zeta=0.0, layers=[4])(states)
    with pytest.raises(iso.InvalidValueError, match="entry 1 of hidden_states is None"):
        IStarLoss(8, zeta=0.0, layers=[1])([states[0], None])
    for bad in ([], [1, 1]):
        with pytest.raises(iso.InvalidValueError, match="layers"):
            IStarLoss(8, layers=bad)
    with pytest.raises(iso.InvalidTypeError, match="layers"):
        IStarLoss(8, layers="1")


def test_collect_gives_means_since_the_last_time() -> None:
    batches = [anisotropic(rows=20 + 10 * i) for i in range(3)]
    penalty = IStarLoss(8, 2.0, 0.0)
    assert penalty.collect() == {}
    for batch in batches:
        penalty(batch)
    scores = [score_of(batch) for batch in batches]
    found = penalty.collect()
    assert found == pytest.approx(
        {"isoscore_star": np.mean(scores), "istar_penalty": np.mean([2 - 2 * s for s in scores])}
    )
    assert penalty.collect() == {}


@pytest.mark.parametrize("reduction", ["union", "mean"])
def test_collect_tells_of_each_layer(reduction: str) -> None:
    states = [anisotropic(), None, 3 * anisotropic(rows=30)]
    penalty = IStarLoss(8, 1.0, 0.0, reduction=reduction, log_layers=True)
    penalty(states)
    found = penalty.collect()
    assert found["isoscore_star/layer_00"] == pytest.approx(score_of(states[0]))
    assert found["isoscore_star/layer_02"] == pytest.approx(score_of(states[2]))
    assert len(found) == 4


def test_nothing_is_recorded_inside_transforms() -> None:
    penalty = IStarLoss(8, 1.0, 0.0)
    torch.func.grad(penalty)(anisotropic().detach())
    torch.func.vmap(penalty)(anisotropic().detach().reshape(2, 32, 8))
    assert penalty.collect() == {}


def test_a_collapse_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    penalty, points = IStarLoss(8, -1.0, 0.0), anisotropic()
    line = torch.outer(torch.arange(9, dtype=torch.float64), torch.ones(8, dtype=torch.float64))
    with caplog.at_level(logging.WARNING, logger="isoscore_star"):
        penalty(points)
        penalty.collect()
        assert not caplog.records
        resumed = IStarLoss(8, -1.0, 0.0)
        resumed.load_state_dict(penalty.state_dict())
        for module in (penalty, resumed):  # the start was saved
            for _ in range(2):
                module(line)
                module.collect()
    expected = f"isoscore_star fell from {score_of(points):.3g} at the start to 0:"
    assert [record.getMessage().startswith(expected) for record in caplog.records] == [True, True]


@pytest.mark.parametrize("first", ["evaluation", "not finite", "negative"])
def test_the_start_is_that_of_a_batch_that_can_be_fallen_from(caplog: pytest.LogCaptureFixture, first: str) -> None:
    torch.manual_seed(0)
    points = torch.randn(50, 8)
    line = points[:, :1] * torch.ones(8)
    penalty = IStarLoss(8, -1.0, 0.0)
    if first == "evaluation":
        penalty.eval()(line + 0.01 * points)
        penalty.train()
    else:
        penalty.log.record({"isoscore_star": torch.tensor(-0.01 if first == "negative" else torch.nan)})
    penalty.collect()
    with caplog.at_level(logging.WARNING, logger="isoscore_star"):
        for states in (points, line):
            penalty(states)
            penalty.collect()
    assert [f"from {score_of(points):.3g} at" in record.getMessage() for record in caplog.records] == [True]


def test_schedules() -> None:
    cosine = iso.LambdaSchedule(2.0, 110, warmup_steps=10, shape="cosine", final=1.0)
    assert [cosine(step) for step in (0, 5, 10, 60, 110, 500)] == pytest.approx([0, 1, 2, 1.5, 1, 1])
    constant = iso.LambdaSchedule(-3.0, 10)
    assert [constant(step) for step in (0, 9, 100)] == [-3.0] * 3
    for bad, message in (({"total_steps": 0}, "total_steps"), ({"total_steps": 5, "warmup_steps": 6}, "at most")):
        with pytest.raises(iso.InvalidValueError, match=message):
            iso.LambdaSchedule(1.0, **bad)
    with pytest.raises(iso.InvalidTypeError, match="number of steps"):
        iso.LambdaSchedule(1.0, 10.5)
    with pytest.raises(iso.InvalidValueError, match="'constant', 'linear', 'cosine'"):
        iso.LambdaSchedule(1.0, 10, shape="step")


def test_a_shrinkage_covariance_of_other_states_is_refused() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"skip_embeddings=False there and skip_embeddings=True here"):
        IStarLoss(8, shrinkage_cov=ShrinkageCovariance(8), skip_embeddings=True)
    with pytest.raises(iso.InvalidValueError, match="dim=9 there"):
        IStarLoss(8, shrinkage_cov=ShrinkageCovariance(9, "running"))
    IStarLoss(8, shrinkage_cov=ShrinkageCovariance(8, "running"), skip_embeddings=True)  # is handed the loss's states
