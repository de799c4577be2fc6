"""`IStarLoss(estimator="anchored", rank=k)`: Σ_S by its leading directions, against eigenpairs of NumPy."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from isoscore_star.backends.torch import IStarLoss  # noqa: E402

DIM, RANK = 24, 5
SHAPE = (6, 7, DIM)


def spectrum(gap: float) -> np.ndarray:
    """Leading variances 1 to 1/5, the others gap times as much and less."""
    return np.concatenate([1 / np.arange(1.0, RANK + 1), gap / np.arange(RANK + 1.0, DIM + 1)])


def covariance_of(variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0]
    return (vectors * variances) @ vectors.T, vectors


def states_of(variances: np.ndarray, shift: float = 3.0) -> Any:
    rng = np.random.default_rng(1)
    cov, _ = covariance_of(variances)
    mixed = rng.normal(size=SHAPE) @ np.linalg.cholesky(cov).T + rng.normal(size=DIM) * shift
    return torch.tensor(mixed, requires_grad=True)


def penalty_of(cov: np.ndarray, rank: int | None = RANK, **arguments: Any) -> IStarLoss:
    return IStarLoss(DIM, 1.0, shrinkage_cov=cov, estimator="anchored", rank=rank, **arguments).eval()


def by_eigenpairs(states: np.ndarray, variances: np.ndarray, vectors: np.ndarray) -> float:
    """1 − (2·s(A, B̂) − s(B, B)), with ⟨A, B̂⟩ = ρ′·tr A + Σ(λⱼ − ρ)·uⱼᵀAuⱼ over the leading eigenpairs."""
    batch = np.cov(states.reshape(-1, DIM).T)
    rho = variances[RANK:].mean()
    low = np.concatenate([variances[:RANK], np.full(DIM - RANK, rho)])
    trace, squares = variances.sum(), (variances**2).sum()
    rest = rho + (squares - (low**2).sum()) / trace
    inner = rest * np.trace(batch)
    for variance, vector in zip(variances[:RANK], vectors.T[:RANK], strict=True):
        inner += (variance - rho) * (vector @ batch @ vector)
    score, own = (np.trace(batch) * trace / inner - 1) / (DIM - 1), (trace**2 / squares - 1) / (DIM - 1)
    return float(1 - (2 * score - own))


def test_value_is_that_of_the_eigenpairs() -> None:
    # Two products turn a random basis to the leading directions up to (gap)²: 1e-12, and the value by its square.
    variances = spectrum(1e-6)
    cov, vectors = covariance_of(variances)
    states = states_of(variances)
    assert abs(penalty_of(cov)(states).item() - by_eigenpairs(states.detach().numpy(), variances, vectors)) < 1e-12


def test_at_the_anchor_the_value_is_the_anchors_score() -> None:
    """Whatever directions were found: of a spectrum without a gap."""
    variances = 1 / np.arange(1.0, DIM + 1)
    cov, vectors = covariance_of(variances)
    corners = vectors.T * np.sqrt(variances)[:, None]
    points = torch.tensor(np.concatenate([corners, -corners]) * np.sqrt((2 * DIM - 1) / 2))
    assert np.abs(np.cov(points.numpy().T) - cov).max() < 1e-15
    assert abs(1 - penalty_of(cov, 3)(points).item() - iso.isoscore_from_cov(cov)) < 1e-12


def test_all_directions_are_the_whole_covariance() -> None:
    cov, _ = covariance_of(1 / np.arange(1.0, DIM + 1))
    whole, low = states_of(spectrum(0.3)), states_of(spectrum(0.3))
    losses = [penalty_of(cov, None)(whole), penalty_of(cov, DIM)(low)]
    for loss in losses:
        loss.backward()
    assert abs(losses[0].item() - losses[1].item()) < 1e-13
    assert (whole.grad - low.grad).abs().max() < 1e-12 * whole.grad.abs().max()


def test_gradients() -> None:
    cov, _ = covariance_of(spectrum(0.3))
    states, penalty = states_of(spectrum(0.5)), penalty_of(cov)
    assert torch.autograd.gradcheck(penalty, (states,))
    assert torch.autograd.gradgradcheck(penalty, (states,))


def test_masks_and_unions() -> None:
    cov, _ = covariance_of(spectrum(0.3))
    states = states_of(spectrum(0.5)).detach()
    mask = torch.ones(SHAPE[:2])
    mask[2:, 4:] = 0
    spoiled = states.clone()
    spoiled[2:, 4:] = torch.nan
    kept = states[mask.bool()]
    loss = penalty_of(cov)([spoiled, states + 1], [mask, None])
    expected = penalty_of(cov)(torch.cat([kept, (states + 1).reshape(-1, DIM)]))
    assert abs(loss.item() - expected.item()) < 1e-13


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_any_scale(scale: float) -> None:
    cov, _ = covariance_of(spectrum(0.3))
    states = states_of(spectrum(0.5)).detach()
    expected = penalty_of(cov)(states).item()
    float32 = penalty_of((cov * scale**2).astype(np.float32))(states.float() * scale).item()
    assert abs(float32 - expected) < 1e-5
    assert abs(penalty_of(cov * scale**8)(states * scale**4).item() - expected) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: Any) -> None:
    cov, _ = covariance_of(spectrum(0.3))
    rounded = states_of(spectrum(0.5), shift=0.0).detach().to(dtype).requires_grad_()
    loss = penalty_of(cov)(rounded)
    loss.backward()
    assert abs(loss.item() - penalty_of(cov)(rounded.detach().double()).item()) < 1e-3
    assert rounded.grad.dtype == dtype
    assert rounded.grad.isfinite().all()


def flops_of(penalty: IStarLoss, states: Any) -> int:
    penalty(states)  # finds the directions
    with FlopCounterMode(display=False) as counter:
        penalty(states).backward()
    return counter.get_total_flops()


def test_products_of_k_columns() -> None:
    cov, _ = covariance_of(spectrum(0.3))
    states = states_of(spectrum(0.5))
    rows = states.numel() // DIM
    saved = flops_of(penalty_of(cov, None), states) - flops_of(penalty_of(cov), states)
    forward, backward = DIM * RANK + RANK * RANK, RANK * DIM
    assert saved == 2 * rows * DIM * DIM - 2 * rows * (forward + backward) - 2 * RANK * RANK * DIM


def test_another_covariance_is_noticed() -> None:
    first, second = (covariance_of(spectrum(gap))[0] for gap in (0.3, 0.9))
    states, penalty = states_of(spectrum(0.5)), penalty_of(first)
    penalty(states)
    penalty.set_shrinkage_cov(second)
    assert penalty(states).item() == penalty_of(second)(states).item()
    assert penalty.shrinkage_cov is not None
    penalty.shrinkage_cov.copy_(torch.tensor(first))  # in place, as load_state_dict does
    assert penalty(states).item() == penalty_of(first)(states).item()


def test_with_a_running_covariance_as_with_a_given_one() -> None:
    penalty = IStarLoss(DIM, estimator="anchored", rank=RANK)
    for seed in range(3):
        states = (states_of(spectrum(0.5)) + seed).detach().requires_grad_()
        before = None if penalty.shrinkage is None or penalty.shrinkage.cov is None else penalty.shrinkage.cov.numpy()
        (gradient,) = torch.autograd.grad(penalty(states), states)
        if before is not None:
            (expected,) = torch.autograd.grad(penalty_of(before)(states), states)
            assert (gradient - expected).abs().max() < 1e-12 * expected.abs().max()


def test_a_copy_and_a_saved_one_are_the_same() -> None:
    cov, _ = covariance_of(spectrum(0.3))
    states, penalty = states_of(spectrum(0.5)), penalty_of(cov)
    loss = penalty(states).item()
    loaded = penalty_of(covariance_of(spectrum(0.9))[0])
    loaded.load_state_dict(penalty.state_dict())
    assert loaded(states).item() == copy.deepcopy(penalty)(states).item() == loss


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
def test_compiled() -> None:
    cov, _ = covariance_of(spectrum(0.3))
    states, penalty = states_of(spectrum(0.5)), penalty_of(cov)
    expected = torch.autograd.grad(penalty(states), states)[0]
    loss = torch.compile(penalty)(states)
    assert abs(loss.item() - penalty(states).item()) < 1e-12
    assert (torch.autograd.grad(loss, states)[0] - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "anchored", "rank": 0}, "rank: expected an integer from 1 to 24"),
        ({"estimator": "anchored", "rank": DIM + 1}, "got 25"),
        ({"estimator": "anchored", "rank": 2.5}, "got 2.5 of type float"),
        ({"rank": 4}, "got estimator='shrinkage'"),
    ],
)
def test_wrong_ranks(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        IStarLoss(DIM, **arguments)
