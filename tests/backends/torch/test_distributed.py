"""Two ranks of `torch.distributed` (gloo), which `support_ranks` runs, against one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import weighted_mean

import isoscore_star as iso
from isoscore_star import reference

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")

fsdp = pytest.importorskip("torch.distributed.fsdp")

import support_ranks  # noqa: E402
from support_ranks import (  # noqa: E402
    CLOUDS,
    COV,
    CUTS,
    DIM,
    EXTREMES,
    FEW,
    MASK,
    MET,
    POINTS,
    SAMPLE,
    SENTENCES,
    SHARDED,
    SHRUNK,
    TOKENS,
    TRAINING,
    UNBIASED,
    ZETA,
    Classifier,
    Network,
    encoder,
    examples,
    far_points,
    flat_gradient,
    mask_of,
    part_of,
)

from isoscore_star.backends.torch.moments import StreamingMoments  # noqa: E402


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    # From elsewhere, since the root of the checkout holds the package without its backends.
    subprocess.run(
        [sys.executable, support_ranks.__file__, str(folder)], env=environment, cwd=folder, check=True, timeout=240
    )
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def alone(name: str) -> tuple[Any, list[Any], Any]:
    """Give the network, its states that count on the whole batch of a case, and the loss of these in one process."""
    inputs, mask, _, arguments = TRAINING[name]
    network = Network()
    states = network(torch.tensor(inputs))
    keep = None if mask is None else torch.tensor(mask)
    loss = iso.istar_loss(states, mask=keep, **arguments)
    return network, states if keep is None else [state[keep] for state in states], loss


def same_gradient(got: np.ndarray, expected: np.ndarray, tolerance: float = 1e-10) -> bool:
    return bool(np.abs(got - expected).max() <= tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", [*TRAINING, *(f"sharded {name}" for name in SHARDED)])
def test_training_equals_that_of_one_process(found: list[dict[str, np.ndarray]], name: str) -> None:
    if f"{name}/loss" not in found[0]:
        pytest.skip("this torch has no FSDP2 (fully_shard)")
    network, _, loss = alone(name.removeprefix("sharded "))
    loss.backward()
    for rank in found:
        assert float(rank[f"{name}/loss"]) == pytest.approx(loss.item(), rel=1e-10)
        assert same_gradient(rank[f"{name}/gradient"], flat_gradient(network))


@pytest.mark.parametrize("name", [name for name, case in TRAINING.items() if case[3] is SHRUNK])
def test_training_equals_the_authors_loss_of_the_whole_batch(found: list[dict[str, np.ndarray]], name: str) -> None:
    authors = pytest.importorskip("IsoScore.IsoScore")
    network, states, _ = alone(name)
    points = torch.cat([state.reshape(-1, DIM) for state in states])
    loss = 3 * (1 - authors.istar().IsoScore_star(points, torch.tensor(COV), ZETA, is_eval=False, gpu_id="cpu"))
    loss.backward()
    assert 3 * (1 - reference.isoscore_star(points.detach().numpy(), COV, ZETA)) == pytest.approx(
        loss.item(), abs=1e-12
    )
    for rank in found:
        assert float(rank[f"{name}/loss"]) == pytest.approx(loss.item(), rel=1e-10)
        assert same_gradient(rank[f"{name}/gradient"], flat_gradient(network))


@pytest.mark.parametrize("name", [name for name, case in TRAINING.items() if case[3] is UNBIASED])
def test_unbiased_training_has_the_value_of_the_dimensionality_package(
    found: list[dict[str, np.ndarray]], name: str
) -> None:
    dimensionality = pytest.importorskip("dimensionality")
    _, states, _ = alone(name)
    points = torch.cat([state.reshape(-1, DIM) for state in states]).detach().numpy()
    expected = dimensionality.participation_ratio(points, return_all=True)["row"]
    for rank in found:
        assert iso.participation_ratio(1 - float(rank[f"{name}/loss"]), DIM) == pytest.approx(expected, rel=1e-10)


def test_the_anchored_loss_exchanges_no_matrix(found: list[dict[str, np.ndarray]]) -> None:
    for rank in found:
        assert int(rank["anchored/bytes"]) == 8 * (DIM + 1) + 8 * 2 + 8 * 2  # mean, sums, and the slopes backward


def test_sync_auto_is_the_global_batch_and_sync_false_the_mean_of_the_ranks(found: list[dict[str, np.ndarray]]) -> None:
    network, _, loss = alone("masked")
    loss.backward()
    for rank in found:
        assert float(rank["sync=auto/loss"]) == pytest.approx(loss.item(), rel=1e-10)
        assert same_gradient(rank["sync=auto/gradient"], flat_gradient(network))
    separate = Network()
    losses = []
    for rank in range(2):
        states = separate(part_of(TOKENS, 20, rank))
        losses.append(iso.istar_loss(states, mask=part_of(MASK, 20, rank), **SHRUNK))
        assert float(found[rank]["sync=False/loss"]) == pytest.approx(losses[-1].item(), rel=1e-10)
    (sum(losses) / 2).backward()
    for rank in found:
        assert same_gradient(rank["sync=False/gradient"], flat_gradient(separate))
    # The ranks' own scores are another loss: of fewer points, which look less isotropic.
    assert min(float(rank["sync=False/loss"]) for rank in found) > loss.item()
    assert not same_gradient(found[0]["sync=False/gradient"], flat_gradient(network), 1e-2)


def whole(found: list[dict[str, np.ndarray]], key: str) -> np.ndarray:
    return np.concatenate([rank[key] for rank in found])


@pytest.mark.parametrize("name", [name for name in CLOUDS if name in ("shrunk", "unbiased", "one point each")])
def test_gradients_for_the_points(found: list[dict[str, np.ndarray]], name: str) -> None:
    points, _, arguments = CLOUDS[name]
    X = torch.tensor(points, requires_grad=True)
    loss = iso.istar_loss(X, **arguments)
    (gradient,) = torch.autograd.grad(loss, X)
    for rank in found:
        assert float(rank[f"{name}/loss"]) == pytest.approx(loss.item(), abs=1e-12)
    # That of the sum of two equal losses.
    assert same_gradient(whole(found, f"{name}/gradient") / 2, gradient.numpy())


@pytest.mark.parametrize("name", [name for name in CLOUDS if name.startswith(("identical", "no point"))])
def test_without_spread_the_score_is_zero_with_zero_gradient(found: list[dict[str, np.ndarray]], name: str) -> None:
    assert [float(rank[f"{name}/loss"]) for rank in found] == [1.0, 1.0]
    gradient = whole(found, f"{name}/gradient")
    assert np.array_equal(gradient, np.zeros_like(CLOUDS[name][0]))


def test_what_is_masked_reaches_nothing(found: list[dict[str, np.ndarray]]) -> None:
    keep = np.arange(32) % 5 != 2
    X = torch.tensor(POINTS[keep], requires_grad=True)
    (gradient,) = torch.autograd.grad(iso.istar_loss(X, **UNBIASED), X)
    assert float(found[0]["NaN behind the mask/loss"]) == pytest.approx(1 - iso.isoscore_unbiased(POINTS[keep]))
    got = whole(found, "NaN behind the mask/gradient")
    assert same_gradient(got[keep] / 2, gradient.numpy())
    assert not got[~keep].any()


def test_each_rank_gets_the_gradient_of_the_sum_of_all_losses(found: list[dict[str, np.ndarray]]) -> None:
    X, cov = torch.tensor(POINTS, requires_grad=True), torch.eye(6, dtype=torch.float64).requires_grad_()
    of_points, of_cov = torch.autograd.grad(iso.istar_loss(X, cov, 0.4), (X, cov))
    assert same_gradient(whole(found, "weighted/gradient"), 5 * of_points.numpy())
    for i, rank in enumerate(found):  # Σ_S is a rank's own
        assert same_gradient(rank["weighted/cov"], (2 + i) * of_cov.numpy())


def test_second_derivatives_are_refused(found: list[dict[str, np.ndarray]]) -> None:
    for rank in found:
        assert "first derivatives only" in str(rank["second derivative"])


def test_compiled_whole(found: list[dict[str, np.ndarray]]) -> None:
    assert float(found[0]["compiled/loss"]) == pytest.approx(float(found[0]["unbiased/loss"]), abs=1e-12)
    assert same_gradient(whole(found, "compiled/gradient"), whole(found, "unbiased/gradient"))


def test_a_mean_far_away_costs_float32_no_digits(found: list[dict[str, np.ndarray]]) -> None:
    points = far_points().astype(np.float64)
    for rank in found:
        assert float(rank["far/isoscore"]) == pytest.approx(reference.isoscore_star(points), abs=1e-5)
        assert float(rank["far/isoscore_unbiased"]) == pytest.approx(iso.isoscore_unbiased(points), abs=1e-5)


@pytest.mark.parametrize("name", EXTREMES)
def test_neither_a_mean_far_away_nor_any_scale_costs_digits(found: list[dict[str, np.ndarray]], name: str) -> None:
    points = EXTREMES[name] - EXTREMES[name][0]  # exact
    unit = np.abs(points).max()
    X = torch.tensor(points / unit, requires_grad=True)
    (gradient,) = torch.autograd.grad(iso.isoscore(X), X)
    for rank in found:
        for kind in ("score", "moments"):
            assert float(rank[f"extreme {name}/{kind}"]) == pytest.approx(
                reference.isoscore_star(points / unit), abs=1e-12
            )
        unbiased = iso.isoscore_unbiased(points / unit)
        assert float(rank[f"extreme {name}/unbiased moments"]) == pytest.approx(unbiased, abs=1e-11)
    assert same_gradient(whole(found, f"extreme {name}/gradient") * unit / 2, gradient.numpy())


def test_measuring(found: list[dict[str, np.ndarray]]) -> None:
    rounded = torch.tensor(POINTS).bfloat16().double().numpy()
    for rank in found:
        assert float(rank["group/isoscore"]) == pytest.approx(reference.isoscore_star(POINTS), abs=1e-12)
        assert float(rank["half/isoscore"]) == pytest.approx(reference.isoscore_star(rounded), abs=1e-5)
        assert "all 6 points are identical" in str(rank["error/identical"])
        assert "at least 2 points; got 1" in str(rank["error/too few"])
    assert float(found[0]["group/one rank"]) == pytest.approx(reference.isoscore_star(POINTS[:20]), abs=1e-12)
    assert "this rank is a member" in str(found[1]["group/no member"])


def test_streaming_moments_of_all_ranks(found: list[dict[str, np.ndarray]]) -> None:
    for cut in (20, 32):
        for rank in found:
            packed = torch.tensor(rank[f"moments {cut}/packed"])
            got = StreamingMoments.from_packed(packed, 6, fourth_order=True)
            assert got.count == 32
            assert np.allclose(got.mean, POINTS.mean(0), rtol=0, atol=1e-13)
            assert np.allclose(got.cov, np.cov(POINTS.T), rtol=0, atol=1e-13)
            centred = POINTS - POINTS.mean(0)
            q = got.invariants().q * got.invariants().unit ** 4
            assert float(q) == pytest.approx(float(((centred**2).sum(1) ** 2).sum() / 31), rel=1e-12)


def test_a_shrinkage_covariance_is_that_of_all_ranks(found: list[dict[str, np.ndarray]]) -> None:
    states = encoder()(torch.tensor(SAMPLE)).detach().numpy()
    expected = {
        "all": np.cov(states.T),
        "running": weighted_mean([np.cov(batch.T) for batch in (SAMPLE[:30], SAMPLE[30:])], 0.5),
        "cut": np.cov(np.concatenate([states[:13], states[70:82]]).T),
    }
    for name, cov in expected.items():
        assert np.array_equal(*(rank[f"covariance/{name}"] for rank in found))
        assert np.allclose(found[0][f"covariance/{name}"], cov, rtol=1e-11, atol=1e-12)
    assert [rank["covariance/count"] for rank in found] == [100, 100]
    assert np.allclose(found[1]["covariance/own"], np.cov(states[70:].T), rtol=1e-11, atol=1e-12)


def test_a_covariance_that_follows_is_that_of_all_ranks(found: list[dict[str, np.ndarray]]) -> None:
    """Also where a rank has no sequence of a batch."""
    cov, weight = np.cov(SENTENCES[0].reshape(-1, 6).T), 0.5
    for step in (1, 2):
        own = np.cov(SENTENCES[step].reshape(-1, 6).T)
        score = (np.trace(own) * np.trace(cov) / np.sum(own * cov) - 1) / 5
        for rank in found:
            assert float(rank[f"following/{step}"]) == pytest.approx(1 - score, rel=1e-10)
        weight = weight * 0.5 + 0.5
        cov = cov + 0.5 / weight * (own - cov)


def mean_cosine(points: Any) -> Any:
    """Sum the cosines of all pairs i ≠ j, over m²."""
    cosines = torch.nn.functional.cosine_similarity(points[:, None], points[None], dim=2)
    return (cosines.sum() - cosines.diagonal().sum()) / len(points) ** 2


def test_cosines_are_those_of_the_global_batch(found: list[dict[str, np.ndarray]]) -> None:
    points = torch.tensor(FEW, requires_grad=True)
    truth = 2 * mean_cosine(points)
    (gradient,) = torch.autograd.grad(truth, points)
    for sync in ("auto", True):
        for rank in found:
            assert float(rank[f"cosine sync={sync}/loss"]) == pytest.approx(truth.item(), abs=1e-14)
        # Both ranks' losses are the global one, and a rank's gradient is that of their sum: DDP's mean undoes it.
        got = whole(found, f"cosine sync={sync}/gradient") / 2
        assert np.abs(got - gradient.numpy()).max() < 1e-14
    for rank, rows in zip(found, (slice(0, 8), slice(8, 11)), strict=True):
        own = 2 * mean_cosine(points[rows]).item()
        assert float(rank["cosine sync=False/loss"]) == pytest.approx(own, abs=1e-14)
    alone = mean_cosine(points[:8])
    (expected,) = torch.autograd.grad(alone, points)
    for rank in found:
        assert float(rank["cosine empty/loss"]) == pytest.approx(alone.item(), abs=1e-14)
    assert np.abs(found[0]["cosine empty/gradient"] / 2 - expected[:8].numpy()).max() < 1e-14
    assert not found[1]["cosine empty/gradient"].any()


@pytest.mark.parametrize("cut", CUTS)
def test_streaming_halves_of_all_ranks(found: list[dict[str, np.ndarray]], cut: int) -> None:
    """Numbers count on from the first rank's sequences to the second's."""
    expected = reference.isoscore_halves(*(TOKENS[half::2][MASK[half::2]] for half in (0, 1)))
    for rank in found:
        assert float(rank[f"halves {cut}"]) == pytest.approx(expected, abs=1e-12)
        assert rank[f"halves {cut}, groups"] == 32
        if "metric unbiased 20" in rank:  # torchmetrics is installed
            assert float(rank[f"metric halves {cut}"]) == pytest.approx(expected, abs=1e-12)
    expected = reference.isoscore_halves(*(TOKENS[half::2][mask_of(MET[1])[half::2]] for half in (0, 1)))
    for rank in found:
        assert rank[f"halves {cut}, {MET[0]}"] == 0
        assert float(rank[f"halves {cut}, {MET[1]}"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("cut", [20, 0])
def test_torchmetrics_over_two_processes(found: list[dict[str, np.ndarray]], cut: int) -> None:
    pytest.importorskip("torchmetrics")
    for rank, own in zip(found, (cut, 32 - cut), strict=True):
        assert float(rank[f"metric shrinkage {cut}"]) == pytest.approx(reference.isoscore_star(POINTS), abs=1e-12)
        assert float(rank[f"metric unbiased {cut}"]) == pytest.approx(iso.isoscore_unbiased(POINTS), abs=1e-12)
        assert float(rank[f"metric unbiased {cut}, own count"]) == own  # each has its own state back


def test_the_documented_examples(found: list[dict[str, np.ndarray]]) -> None:
    assert [len(code.splitlines()) < 15 for code in examples()] == [True, True]
    states, _ = Classifier()(torch.tensor(TOKENS))
    expected = iso.istar_loss(states, mask=torch.tensor(MASK), **TRAINING["halves"][3]).item()
    for rank in found:
        for way in ("DDP", "FSDP"):
            if f"documented {way}/loss" in rank:
                assert float(rank[f"documented {way}/penalty"]) == pytest.approx(
                    expected, rel=1e-6
                )  # logged in float32
                assert np.isfinite(rank[f"documented {way}/loss"])


def test_across_needs_a_distributed_run() -> None:
    X = torch.zeros(4, 3)
    with pytest.raises(iso.InvalidValueError, match=r"not initialised.*torchrun.*init_process_group"):
        iso.isoscore(X, across="world")
    with pytest.raises(iso.InvalidValueError, match="'all'"):
        iso.istar_loss(X, zeta=0.0, across="all")
    with pytest.raises(iso.InvalidTypeError, match="ProcessGroup"):
        iso.istar_loss(X, zeta=0.0, across=object())
