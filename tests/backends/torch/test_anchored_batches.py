"""Batches that an anchored loss has to live through: of nothing, of one sequence, not finite; and transformations."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance  # noqa: E402

DIM = 8


def states(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def step(penalty: IStarLoss, batch: Any) -> tuple[float, Any]:
    loss = penalty(batch)
    return loss.item(), torch.autograd.grad(loss, batch)[0]


USUAL: dict[str, dict[str, Any]] = {
    "its own": {},
    "of rank 3": {"rank": 3},
    "with zeta = 0": {"zeta": 0.0},
    "with layers in the log": {"log_layers": True},
}


@pytest.mark.parametrize("arguments", USUAL.values(), ids=USUAL)
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(torch.full((4, 6, DIM), torch.inf), id="infinite"),
        pytest.param(torch.full((4, 6, DIM), torch.nan), id="nan"),
        pytest.param(torch.ones(4, 6, DIM), id="identical"),
        pytest.param(torch.zeros(1, 1, DIM), id="one point"),
        pytest.param(torch.zeros(0, 6, DIM), id="no sequence"),
        pytest.param(torch.zeros(4, 0, DIM), id="no token"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_batch_without_a_covariance_is_not_learned(arguments: dict[str, Any], bad: Any, first: bool) -> None:
    penalty, clean = (IStarLoss(DIM, estimator="anchored", **arguments) for _ in range(2))
    if not first:
        for each in (penalty, clean):
            step(each, states(4, 6))
    loss, gradient = step(penalty, bad.clone().requires_grad_())
    if bad.isfinite().all():
        assert 0 <= loss <= 1 or not first
        assert not gradient.any()
    for seed in (1, 2):
        (loss, gradient), (expected, truth) = (
            step(penalty, states(4, 6, seed=seed)),
            step(clean, states(4, 6, seed=seed)),
        )
        if first and seed == 1:  # compared with itself by the one that has seen nothing, and by the other with nothing
            assert np.isfinite(loss)
            assert gradient.isfinite().all()
            continue
        assert loss == pytest.approx(expected, abs=1e-6)
        assert torch.allclose(gradient, truth, atol=1e-6)


@pytest.mark.parametrize("tokens", [7, 8, 30])
def test_one_sequence(tokens: int) -> None:
    """As many tokens as dimensions, and more: one half of the groups is empty."""
    loss, gradient = step(IStarLoss(DIM, estimator="anchored"), states(1, tokens))
    assert np.isfinite(loss)
    assert gradient.isfinite().all()
    with pytest.raises(iso.DegenerateDataError, match="at least 4 groups"):
        iso.isoscore_unbiased(states(1, tokens).detach())
    assert iso.istar_loss(states(1, tokens), estimator="unbiased").item() == 1


def test_transformations_leave_nothing_behind() -> None:
    penalty = IStarLoss(DIM, estimator="anchored")
    penalty(states(4, 6))
    before = copy.deepcopy(penalty.state_dict())
    gradient = torch.func.grad(lambda batch: penalty(batch))(states(4, 6, seed=1).detach())
    assert gradient.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in copy.deepcopy(penalty).state_dict().items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
def test_the_running_covariance_compiles_whole() -> None:
    compiled, plain = (IStarLoss(DIM, estimator="anchored") for _ in range(2))
    whole = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        assert whole(states(4, 6, seed=seed)).item() == pytest.approx(plain(states(4, 6, seed=seed)).item(), abs=1e-6)


def test_the_answer_of_the_trust_test_is_restored() -> None:
    far = torch.diag(torch.tensor([100.0] + [1.0] * (DIM - 1)))
    penalty, resumed = (IStarLoss(DIM, shrinkage_cov=far, estimator="anchored") for _ in range(2))
    for seed in range(3):
        penalty(states(4, 6, seed=seed))
    assert penalty.trust is not None
    assert not penalty.trust.trusted
    resumed.load_state_dict(penalty.state_dict())
    assert step(resumed, states(4, 6))[0] == step(penalty, states(4, 6))[0]


def test_a_rank_in_inference_mode() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", rank=3)
    penalty(states(4, 6))
    expected = penalty.eval()(states(4, 6)).item()
    with torch.inference_mode():
        assert penalty(states(4, 6)).item() == expected


@pytest.mark.parametrize(
    "shrinkage_cov", [torch.eye(DIM), ShrinkageCovariance(DIM, "running", shrinkage_cov=np.eye(DIM))]
)
def test_a_covariance_of_another_width_is_not_loaded(shrinkage_cov: Any) -> None:
    state = IStarLoss(DIM, shrinkage_cov=shrinkage_cov).state_dict()
    other = IStarLoss(DIM + 1, shrinkage_cov=ShrinkageCovariance(DIM + 1) if "shrinkage.cov" in state else None)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("mask", "groups", "message"),
    [
        (torch.ones(24), "auto", "mask"),
        (None, 5, "groups: expected an axis"),
        (None, "words", "groups: expected"),
        (None, 1.5, "groups: expected"),
        (None, np.zeros((4, 5), int), "groups: expected shape"),
    ],
)
def test_what_is_wrong_is_named(mask: Any, groups: Any, message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        IStarLoss(DIM, estimator="anchored")(states(4, 6), mask, groups)


@pytest.mark.parametrize("made", ["anchored", "shrinkage"])
def test_a_mask_that_is_refused_teaches_nothing(made: str) -> None:
    penalty = IStarLoss(DIM, shrinkage_cov=ShrinkageCovariance(DIM, "running"), estimator=made, check_values=True)
    with pytest.raises(iso.InvalidValueError, match="mask: expected only zeros and ones"):
        penalty(states(4, 6), torch.full((4, 6), 0.5))
    assert penalty.shrinkage.cov is None


@pytest.mark.parametrize("bad", [torch.full((4, 6, DIM), torch.nan), torch.ones(4, 6, DIM)])
def test_a_first_batch_that_is_refused_is_the_points(bad: Any) -> None:
    penalty = IStarLoss(DIM, estimator="anchored", check_values=True)
    with pytest.raises(iso.IsoScoreError) as caught:
        penalty(bad)
    assert caught.value.argument == "X"
    assert penalty(states(4, 6)).isfinite()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
@pytest.mark.parametrize("made", ["anchored", "shrinkage"])
def test_checks_of_values_compile_and_map(made: str) -> None:
    arguments: dict[str, Any] = {"estimator": made, "check_values": True}
    penalty = IStarLoss(DIM, shrinkage_cov=ShrinkageCovariance(DIM, "running", decay=0.5), **arguments)
    penalty(states(4, 6), torch.ones(4, 6))
    penalty.eval()
    batches = torch.stack([states(4, 6, seed=seed).detach() for seed in (1, 2)])
    each = torch.func.vmap(penalty)(batches, torch.ones(2, 4, 6))
    assert torch.allclose(each, torch.stack([copy.deepcopy(penalty)(batch) for batch in batches]), atol=1e-6)
    whole = torch.compile(penalty, fullgraph=True, backend="aot_eager")
    wanted = copy.deepcopy(penalty)(states(4, 6, seed=3), torch.ones(4, 6))
    assert whole(states(4, 6, seed=3), torch.ones(4, 6)).item() == pytest.approx(wanted.item(), abs=1e-6)


def test_labels_may_be_lists() -> None:
    penalty = IStarLoss(DIM, estimator="anchored")
    penalty(states(40, 60), groups=[[sequence] * 60 for sequence in range(40)])
    assert np.isfinite(penalty.collect()["isoscore_star"])


def test_groups_along_another_axis_stay_whole_in_the_log() -> None:
    """Eight sequences of many tokens, (tokens, sequences, d): a sample along their axis would take three of them."""
    rng, traces, inner = torch.Generator().manual_seed(0), 0.0, 0.0
    penalty = IStarLoss(DIM, shrinkage_cov=torch.eye(DIM), estimator="anchored")
    for _ in range(5):
        own = torch.randn(8, DIM, generator=rng) + torch.randn(200, 8, DIM, generator=rng) / 10
        penalty(own, groups=1)
        halves = [torch.cov(own[:, half::2].reshape(-1, DIM).T) for half in (0, 1)]
        a, b = (half / half.trace() * DIM for half in halves)
        traces, inner = traces + DIM * DIM, inner + (a * b).sum().item()
    assert penalty.collect()["isoscore_star"] == pytest.approx((traces / inner - 1) / (DIM - 1), abs=1e-5)
