"""The anchored estimator of `IStarLoss`: its product, trust test and log, and what it does to a cloud and a network."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.backends.torch.modules import anchor  # noqa: E402
from isoscore_star.core import trust  # noqa: E402

DIM = 16
SPREAD = torch.linspace(0.2, 3, DIM) ** 1.5


def start_of(seed: int = 0) -> torch.Tensor:
    return torch.randn(20, 8, DIM, generator=torch.Generator().manual_seed(seed)) * SPREAD


def covariance_of(states: torch.Tensor) -> torch.Tensor:
    return torch.cov(states.detach().reshape(-1, DIM).T)


PENALTIES: dict[str, Callable[[float], IStarLoss]] = {
    "the paper's": lambda lam: IStarLoss(DIM, lam, zeta=0.0),
    "running": lambda lam: IStarLoss(DIM, lam, estimator="anchored"),
    "the paper's, with a covariance kept for ever": lambda lam: IStarLoss(DIM, lam, 0.2, covariance_of(start_of())),
    "kept for ever": lambda lam: IStarLoss(DIM, lam, 0.2, covariance_of(start_of()), "anchored"),
}


def trained_cloud(penalty: IStarLoss, steps: int) -> float:
    """Train a cloud whose points are free, and return its true score."""
    states = torch.nn.Parameter(start_of())
    optimizer = torch.optim.Adam([states], 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        penalty(states).backward()
        optimizer.step()
    return iso.isoscore(states.detach()).item()


def trained_network(penalty: IStarLoss, steps: int) -> float:
    """Train a network on new batches each time, and return the true score of its states on others."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(DIM, DIM), torch.nn.Tanh(), torch.nn.Linear(DIM, DIM))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        penalty(network(start_of(step))).backward()
        optimizer.step()
    with torch.no_grad():
        return iso.isoscore(network(torch.cat([start_of(step) for step in range(-50, 0)]))).item()


@pytest.mark.slow
@pytest.mark.parametrize("lam", [1.0, -1.0])
@pytest.mark.parametrize("train", [trained_cloud, trained_network])
def test_the_true_score_follows_lambda_as_with_the_papers_loss(
    train: Callable[[IStarLoss, int], float], lam: float
) -> None:
    for papers, name in (
        ("the paper's", "running"),
        ("the paper's, with a covariance kept for ever", "kept for ever"),
    ):
        paper, score = (train(PENALTIES[each](lam), 1000) for each in (papers, name))
        assert lam * (score - paper) >= -0.1, name


def test_without_the_trust_test_a_constant_covariance_is_cheated(monkeypatch: pytest.MonkeyPatch) -> None:
    trusting = trained_cloud(PENALTIES["kept for ever"](1.0), 400)
    monkeypatch.setattr(trust, "FARTHEST", 1e9)
    cheated = trained_cloud(PENALTIES["kept for ever"](1.0), 400)
    assert trusting > cheated + 0.2


def test_one_product_forward_and_none_backward() -> None:
    points, dim = 512, 256
    cov = torch.eye(dim)
    states = torch.randn(points, dim, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        iso.istar_loss(states, cov, estimator="anchored").backward()
    assert counter.get_total_flops() == 2 * points * dim * dim
    with FlopCounterMode(display=False) as counter:
        iso.istar_loss(states, cov, zeta=0.2).backward()
    # One for the symmetric product, of which a CPU computes the panels on and above the diagonal, and one backward.
    assert counter.get_total_flops() > 1.5 * 2 * points * dim * dim


def test_the_batch_is_compared_with_those_before_it() -> None:
    penalty = IStarLoss(DIM, estimator="anchored").double()
    first, second = start_of(0).double(), start_of(1).double().requires_grad_()
    penalty(first)
    assert penalty.shrinkage is not None
    known = penalty.shrinkage.current()
    assert torch.allclose(known, covariance_of(first))
    loss = penalty(second)
    # The value is that of two independent covariances, the gradient that of the anchored loss.
    batch, dim = covariance_of(second), DIM
    score = (batch.trace() * known.trace() / (batch * known).sum() - 1) / (dim - 1)
    assert 1 - loss.item() == pytest.approx(score.item(), abs=1e-12)
    (got,) = torch.autograd.grad(loss, second)
    (expected,) = torch.autograd.grad(iso.istar_loss(second, known, estimator="anchored"), second)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    # The newer batch counts twice, as in an average that began before.
    assert torch.allclose(penalty.shrinkage.current(), (known + 2 * covariance_of(second)) / 3)


def test_a_covariance_of_few_states_follows_the_batches_untested() -> None:
    """Its squared norm is too large for the test, which would take the paper's loss for no other reason."""
    penalty = IStarLoss(DIM, estimator="anchored", shrinkage_cov=ShrinkageCovariance(DIM, "running", decay=0.9))
    for step in range(8):
        penalty(start_of(step)[:3, :2])
        assert penalty.trust is not None
        assert penalty.trust.trusted
    tested = IStarLoss(DIM, estimator="anchored", shrinkage_cov=covariance_of(start_of()[:3, :2]))
    for step in range(8):
        tested(start_of(step)[:3, :2])
    assert tested.trust is not None
    assert not tested.trust.trusted


def test_in_evaluation_nothing_is_learned() -> None:
    penalty = IStarLoss(DIM, estimator="anchored")
    penalty(start_of(0))
    before = {name: value.clone() for name, value in penalty.state_dict().items()}
    penalty.eval()(start_of(1))
    assert all(torch.equal(value, before[name]) for name, value in penalty.state_dict().items())


def test_a_resumed_loss_is_as_one_that_never_stopped() -> None:
    whole, first = IStarLoss(DIM, estimator="anchored"), IStarLoss(DIM, estimator="anchored")
    for step in range(3):
        whole(start_of(step))
        first(start_of(step))
    second = IStarLoss(DIM, estimator="anchored")
    second.load_state_dict(first.state_dict())
    for step in range(3, 6):
        assert torch.equal(whole(start_of(step)), second(start_of(step)))
    states = whole.state_dict(), second.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_far_from_a_constant_covariance_the_loss_is_the_papers() -> None:
    states = start_of().double()
    cov = torch.diag(torch.linspace(3, 0.2, DIM, dtype=torch.float64) ** 3)  # where the states have little variance
    penalty = IStarLoss(DIM, 1.0, 0.3, cov, "anchored")
    penalty(states)
    assert penalty.trust is not None
    assert not penalty.trust.trusted
    expected = reference.isoscore_star(states.reshape(-1, DIM).numpy(), cov.numpy(), 0.3)
    assert 1 - penalty(states).item() == pytest.approx(expected, abs=1e-12)


def test_a_device_answers_some_steps_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device says is not waited for, but its event is, so that all ranks choose the same in every step."""
    waited = 0

    class Event:
        def record(self) -> None:
            """Mark the place in the device's queue."""

        def synchronize(self) -> None:
            nonlocal waited
            waited += 1

    monkeypatch.setattr(anchor, "on_cpu", lambda tensor: False)
    monkeypatch.setattr(torch.cpu, "Event", Event, raising=False)
    cov = torch.diag(torch.linspace(3, 0.2, DIM) ** 3)  # where the states have little variance
    penalty = IStarLoss(DIM, 1.0, 0.3, cov, "anchored")
    assert penalty.trust is not None
    known = []
    for step in range(6):
        penalty(start_of(step))
        known.append(penalty.trust.trusted)
    assert known == [True] * 4 + [False] * 2
    assert waited == 2


def test_checks_of_values_keep_the_trust_test() -> None:
    cov = torch.diag(torch.linspace(3, 0.2, DIM) ** 3)
    penalty = IStarLoss(DIM, 1.0, 0.3, cov, "anchored", check_values=True)
    penalty(start_of())
    assert penalty.trust is not None
    assert not penalty.trust.trusted
    with pytest.raises(iso.InvalidValueError, match="finite"):
        penalty(torch.full((4, 5, DIM), torch.nan))


def test_a_running_covariance_begins_anew_when_it_is_far() -> None:
    shrinkage = ShrinkageCovariance(DIM, "running", decay=0.99)
    penalty = IStarLoss(DIM, shrinkage_cov=shrinkage, estimator="anchored")
    penalty(start_of())
    turned = start_of(1).flip(-1)  # what had most variance has least
    penalty(turned)
    assert torch.allclose(shrinkage.current(), covariance_of(turned), atol=1e-5)
    assert penalty.trust is not None
    penalty(start_of(2).flip(-1))
    assert penalty.trust.trusted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
def test_compiled_there_is_no_gradient_where_the_covariance_is_far() -> None:
    cov = torch.diag(torch.linspace(3, 0.2, DIM) ** 3)
    states = start_of().requires_grad_()
    near = IStarLoss(DIM, 1.0, 0.3, covariance_of(start_of()), "anchored")
    far = IStarLoss(DIM, 1.0, 0.3, cov, "anchored")
    for penalty, backend, zero in ((far, "aot_eager", True), (near, "inductor", False)):
        (gradient,) = torch.autograd.grad(torch.compile(penalty, fullgraph=True, backend=backend)(states), states)
        assert bool((gradient == 0).all()) == zero


def score_of_pairs(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The score whose numerator and denominator are means over the pairs, of covariances in units of their traces."""
    products = [(DIM**2, (a / a.trace() * DIM * b / b.trace() * DIM).sum().item()) for a, b in pairs]
    ratio = sum(a for a, _ in products) / sum(b for _, b in products)
    return (ratio - 1) / (DIM - 1)


def test_the_log_has_the_true_score() -> None:
    penalty = IStarLoss(DIM, shrinkage_cov=covariance_of(start_of()), estimator="anchored")
    batches = [start_of(step)[:, :2] for step in range(3)]  # few enough that the sample is all
    for batch in batches:
        penalty(batch)
    halves = [(covariance_of(batch[0::2]), covariance_of(batch[1::2])) for batch in batches]
    assert penalty.collect()["isoscore_star"] == pytest.approx(score_of_pairs(halves), abs=1e-5)


def test_a_covariance_that_follows_gives_the_score_to_log() -> None:
    """It is as independent of the batch as one half is of the other; the first batch has none before it."""
    penalty = IStarLoss(DIM, estimator="anchored")
    batches = [start_of(step)[:, :2] for step in range(3)]
    penalty(batches[0])
    pairs = [(covariance_of(batches[0][0::2]), covariance_of(batches[0][1::2]))]
    for batch in batches[1:]:
        assert penalty.shrinkage is not None
        pairs.append((covariance_of(batch), penalty.shrinkage.current()))
        penalty(batch)
    assert penalty.collect()["isoscore_star"] == pytest.approx(score_of_pairs(pairs), abs=1e-5)


def test_few_sequences_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    penalty = IStarLoss(DIM, estimator="unbiased")
    states = start_of()[:3].requires_grad_()
    with caplog.at_level(logging.WARNING, "isoscore_star"):
        for _ in range(2):
            (gradient,) = torch.autograd.grad(penalty(states), states)
            assert (gradient == 0).all()
    assert len(caplog.records) == 1
    assert "this one has 3" in caplog.text
    assert "anchored" in caplog.text
    assert penalty.collect().keys() == {"istar_penalty"}  # of no score


def test_only_some_states_of_a_batch_are_enough_for_the_average() -> None:
    shrinkage = ShrinkageCovariance(DIM, "running", decay=0.5, batch_points=80)
    states = start_of()
    shrinkage.update([states], [None])
    # Four of the eight tokens of a sequence, one of each two: the first or the second, by the sequence and the token.
    places = [[2 * part + ((sequence + part) * 157 % 256 >= 128) for part in range(4)] for sequence in range(20)]
    sample = states[torch.arange(20)[:, None], torch.tensor(places)]
    assert torch.allclose(shrinkage.current(), covariance_of(sample), atol=1e-5)
    with pytest.raises(iso.InvalidValueError, match="at least 2"):
        ShrinkageCovariance(DIM, "running", batch_points=1)


def test_the_sample_of_the_log_is_not_of_first_tokens() -> None:
    """A first token that is far from the others, as [CLS] is, counts as one of 32 does."""
    rng = torch.Generator().manual_seed(0)
    penalty = IStarLoss(DIM, shrinkage_cov=torch.eye(DIM), estimator="anchored")
    everything = []
    for _ in range(30):
        states = torch.randn(64, 32, DIM, generator=rng)
        states[:, 0, 0] += 6 * torch.randn(64, generator=rng)
        everything.append(states)
        penalty(states)
    true = iso.isoscore(torch.cat(everything)).item()
    spoiled = iso.isoscore(torch.cat(everything)[:, ::4]).item()
    assert spoiled < true - 0.3
    # 30 samples of 512 states of about 16 effective dimensions: PR errs by 2 % or so, the score by as much.
    assert penalty.collect()["isoscore_star"] == pytest.approx(true, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    states = start_of().to(dtype).requires_grad_()
    cov = covariance_of(start_of(1))
    loss = IStarLoss(DIM, 1.0, 0.2, cov, "anchored")(states)
    expected = reference.isoscore_anchored(states.detach().double().reshape(-1, DIM).numpy(), np.asarray(cov))
    assert 1 - loss.item() == pytest.approx(expected, abs=1e-3)
    (gradient,) = torch.autograd.grad(loss, states)
    assert gradient.dtype == dtype
