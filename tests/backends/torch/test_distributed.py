"""Two ranks of `torch.distributed` (gloo) against one process: this file, run as a script, is one of the two.

Each rank trains on its part of a batch and saves what it found; the tests compare with the whole batch in this process,
with Algorithm 1 and with the authors' loss. d = 81 has √d and √(2(d − √d)) whole, which the authors' package holds in
float32, so that its float64 result is right to rounding.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso
from isoscore_star import reference

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")

fsdp = pytest.importorskip("torch.distributed.fsdp")

from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.backends.torch.moments import StreamingMoments  # noqa: E402
from isoscore_star.core.score import shrunk_score, unbiased_score  # noqa: E402

DIM, ZETA = 81, 0.2
RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(32, 10))
TOKENS = RNG.normal(size=(32, 3, 10))
MASK = np.arange(3) < 1 + np.arange(32)[:, None] % 3
COV = np.cov(RNG.normal(size=(300, DIM)).T * np.linspace(0.5, 2, DIM)[:, None])
POINTS = RNG.normal(size=(32, 6)) * np.linspace(0.3, 2, 6) + 4
SHRUNK: dict[str, Any] = {"shrinkage_cov": COV, "zeta": ZETA, "lam": 3.0}
UNBIASED: dict[str, Any] = {"estimator": "unbiased"}

# Inputs of the network, their mask, where the two ranks part them, and the arguments of the loss.
TRAINING: dict[str, tuple[np.ndarray, np.ndarray | None, int, dict[str, Any]]] = {
    "uneven": (ROWS, None, 20, SHRUNK),
    "uneven, unbiased": (ROWS, None, 20, UNBIASED),
    "without a target": (ROWS, None, 20, {"zeta": 0.0}),
    "masked": (TOKENS, MASK, 20, SHRUNK),
    "masked, unbiased": (TOKENS, MASK, 20, UNBIASED),
    "one rank masked out": (TOKENS, MASK & (np.arange(32) < 20)[:, None], 20, SHRUNK),
    "one rank masked out, unbiased": (TOKENS, MASK & (np.arange(32) < 20)[:, None], 20, UNBIASED),
    "one rank without rows": (ROWS, None, 32, SHRUNK),
    "one rank without rows, unbiased": (ROWS, None, 0, UNBIASED),
}
SHARDED = ("uneven", "uneven, unbiased")
# Points themselves, where the ranks part them, and the arguments.
CLOUDS: dict[str, tuple[np.ndarray, int, dict[str, Any]]] = {
    "shrunk": (POINTS, 20, {"shrinkage_cov": np.diag(np.arange(1.0, 7)), "zeta": 0.4}),
    "unbiased": (POINTS, 20, UNBIASED),
    "identical": (np.full((9, 6), 0.1), 4, {"zeta": 0.0}),
    "identical, unbiased": (np.full((9, 6), 0.1), 4, UNBIASED),
    "identical on one rank, none on the other": (np.full((9, 6), 0.1), 9, {"zeta": 0.0}),
    "no point at all": (np.zeros((0, 6)), 0, {"zeta": 0.0}),
    "one point each": (POINTS[:2], 1, {"shrinkage_cov": np.diag(np.arange(1.0, 7)), "zeta": 0.4}),
}

EXTREMES = {"far": POINTS + 1e8, "large": (POINTS - 4) * 1e200, "small": (POINTS - 4) * 1e-200}


class Network(torch.nn.Module):
    """Two layers, whose states are one union."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(10, DIM).double(), torch.nn.Linear(DIM, DIM).double()

    def forward(self, x: Any) -> list[Any]:
        hidden = torch.tanh(self.first(x))
        return [hidden, self.second(hidden)]


def flat_gradient(network: Any) -> np.ndarray:
    gradients = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in network.parameters()]
    return torch.cat([g.reshape(-1) for g in gradients]).numpy()


def part_of(array: np.ndarray | None, cut: int, rank: int) -> Any:
    return None if array is None else torch.tensor(array[:cut] if rank == 0 else array[cut:])


def main(rank: int, folder: Path) -> None:
    """Be one rank, and save what it finds."""
    found: dict[str, Any] = {}
    dist.init_process_group("gloo", init_method=(folder / "store").as_uri(), rank=rank, world_size=2)
    try:
        for name, value in each_result(rank):
            found[name] = np.asarray(value)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    np.savez(folder / f"{rank}.npz", **found)


def each_result(rank: int) -> Iterator[tuple[str, Any]]:
    yield from trained(rank)
    yield from clouds(rank)
    yield from moments(rank)
    yield from documented(rank)


def trained(rank: int) -> Iterator[tuple[str, Any]]:
    for name, (inputs, mask, cut, arguments) in TRAINING.items():
        network = torch.nn.parallel.DistributedDataParallel(Network())
        keep = part_of(mask, cut, rank)
        loss = iso.istar_loss(network(part_of(inputs, cut, rank)), mask=keep, across="world", **arguments)
        loss.backward()
        yield f"{name}/loss", loss.detach()
        yield f"{name}/gradient", flat_gradient(network)

    inputs, mask, cut, arguments = TRAINING["masked"]
    x, keep = part_of(inputs, cut, rank), part_of(mask, cut, rank)
    for sync in ("auto", False):
        network = torch.nn.parallel.DistributedDataParallel(Network())
        loss = IStarLoss(DIM, sync=sync, **arguments)(network(x), keep)
        loss.backward()
        yield f"sync={sync}/loss", loss.detach()
        yield f"sync={sync}/gradient", flat_gradient(network)

    for name in SHARDED if hasattr(fsdp, "fully_shard") else ():
        inputs, mask, cut, arguments = TRAINING[name]
        network = Network()
        for module in (network.first, network.second, network):
            fsdp.fully_shard(module)
        states = network(part_of(inputs, cut, rank))
        loss = iso.istar_loss(states, mask=part_of(mask, cut, rank), across="world", **arguments)
        loss.backward()
        yield f"sharded {name}/loss", loss.detach()
        yield f"sharded {name}/gradient", flat_gradient(network)


def clouds(rank: int) -> Iterator[tuple[str, Any]]:
    for name, (points, cut, arguments) in CLOUDS.items():
        X = part_of(points, cut, rank).requires_grad_()
        loss = iso.istar_loss(X, across="world", **arguments)
        (gradient,) = torch.autograd.grad(loss, X)
        yield f"{name}/loss", loss.detach()
        yield f"{name}/gradient", gradient

    hidden = np.where((np.arange(32) % 5 != 2)[:, None], POINTS, np.nan)
    X, keep = part_of(hidden, 20, rank).requires_grad_(), part_of(np.arange(32) % 5 != 2, 20, rank)
    loss = iso.istar_loss(X, mask=keep, across="world", **UNBIASED)
    (gradient,) = torch.autograd.grad(loss, X)
    yield "NaN behind the mask/loss", loss.detach()
    yield "NaN behind the mask/gradient", gradient

    # Each rank multiplies its loss by something else: 2 on the first, 3 on the second.
    X, cov = part_of(POINTS, 20, rank).requires_grad_(), torch.eye(6, dtype=torch.float64).requires_grad_()
    loss = iso.istar_loss(X, cov, 0.4, across="world") * (2 + rank)
    of_points, of_cov = torch.autograd.grad(loss, (X, cov), create_graph=True)
    yield "weighted/gradient", of_points.detach()
    yield "weighted/cov", of_cov.detach()
    try:
        of_points.sum().backward()
    except iso.InvalidValueError as error:
        yield "second derivative", str(error)

    X = part_of(POINTS, 20, rank).requires_grad_()
    compiled = torch.compile(
        lambda x: iso.istar_loss(x, across="world", **UNBIASED), fullgraph=True, backend="aot_eager"
    )
    loss = compiled(X)
    (gradient,) = torch.autograd.grad(loss, X)
    yield "compiled/loss", loss.detach()
    yield "compiled/gradient", gradient

    far = part_of(far_points(), 20, rank)
    for name in ("isoscore", "isoscore_unbiased"):
        yield f"far/{name}", getattr(iso, name)(far, across="world")
    for name, points in EXTREMES.items():
        X = part_of(points, 20, rank).requires_grad_()
        score = iso.isoscore(X, across="world")
        yield f"extreme {name}/score", score.detach()
        yield f"extreme {name}/gradient", torch.autograd.grad(score, X)[0]
        reduced = StreamingMoments(6, "cpu", fourth_order=True).update(X.detach()).reduce().invariants()
        yield f"extreme {name}/moments", shrunk_score(reduced, 0.0, 6, torch.where)
        yield f"extreme {name}/unbiased moments", unbiased_score(reduced, 6, torch.where, floored=True)
    yield "half/isoscore", iso.isoscore(part_of(POINTS, 20, rank).bfloat16(), across="world")
    yield "group/isoscore", iso.isoscore(part_of(POINTS, 20, rank), across=dist.new_group([0, 1]))
    first = dist.new_group([0])
    try:
        yield "group/one rank", iso.isoscore(part_of(POINTS, 20, rank), across=first)
    except iso.InvalidTypeError as error:
        yield "group/no member", str(error)
    for name, bad in {"identical": torch.full((3, 6), 0.1), "too few": torch.ones(1 - rank, 6)}.items():
        try:
            iso.isoscore(bad, across="world")
        except iso.DegenerateDataError as error:
            yield f"error/{name}", str(error)


def moments(rank: int) -> Iterator[tuple[str, Any]]:
    for cut in (20, 32):
        own = StreamingMoments(6, "cpu", fourth_order=True).update(part_of(POINTS, cut, rank)).reduce()
        yield f"moments {cut}/packed", own.packed()
    try:
        from isoscore_star.integrations.torchmetrics import IsoScoreStar
    except ModuleNotFoundError:
        return
    for estimator in ("shrinkage", "unbiased"):
        for cut in (20, 0):
            metric = IsoScoreStar(6, estimator=estimator)
            for batch in part_of(POINTS, cut, rank).split(7):
                metric.update(batch)
            metric.update(torch.zeros(1, 6), torch.zeros(1))
            yield f"metric {estimator} {cut}", metric.compute()
            yield f"metric {estimator} {cut}, own count", metric.moments[0]


class Classifier(torch.nn.Module):
    """What the examples of docs/distributed.md take for granted: layers' states and logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(10, DIM), torch.nn.Linear(DIM, DIM)]).double()
        self.head = torch.nn.Linear(DIM, 2).double()

    def forward(self, x: Any) -> tuple[list[Any], Any]:
        states = [torch.tanh(self.layers[0](x))]
        states.append(self.layers[1](states[0]))
        return states, self.head(states[1].mean(1))


def documented(rank: int) -> Iterator[tuple[str, Any]]:
    """Run the examples of docs/distributed.md that need ranks."""
    inputs, attention_mask = part_of(TOKENS, 16, rank), part_of(MASK, 16, rank)
    labels = torch.arange(16) % 2
    names = {"torch": torch, "dim": DIM, "inputs": inputs, "attention_mask": attention_mask, "labels": labels}
    names["loader"] = [(inputs, attention_mask, labels)]
    for code in examples():
        way = "FSDP" if "fully_shard" in code else "DDP"
        if way == "FSDP" and not hasattr(fsdp, "fully_shard"):
            continue
        given = {**names, "net": Classifier()}
        exec(code, given)
        yield f"documented {way}/loss", given["loss"].detach()
        yield f"documented {way}/penalty", given["penalty"].collect()["istar_loss"]


def examples() -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "distributed.md").read_text(), flags=re.DOTALL)
    return [block for block in blocks if ">>>" not in block]


def far_points() -> np.ndarray:
    return (POINTS + 100 * POINTS.std(0)).astype(np.float32)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    # From elsewhere, since the root of the checkout holds the package without its backends.
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(folder)], env=environment, cwd=folder)
        for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
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
    expected = iso.istar_loss(states, mask=torch.tensor(MASK), **UNBIASED).item()
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


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    # torch keeps groups beyond their end (a default argument of torch.distributed.nn does), and a thread of gloo's that
    # gives back a tensor while the interpreter ends aborts the process.
    os._exit(0)
