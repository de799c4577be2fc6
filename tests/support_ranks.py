"""Two ranks of `torch.distributed` (gloo), run as a script by `tests/backends/torch/test_distributed.py`.

Each rank trains on its part of a batch and saves what it found; the tests compare with the whole batch in this process,
with Algorithm 1 and with the authors' loss. d = 81 has √d and √(2(d − √d)) whole, which the authors' package holds in
float32, so that its float64 result is right to rounding.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")

fsdp = pytest.importorskip("torch.distributed.fsdp")

from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.backends.torch.moments import StreamingMoments  # noqa: E402
from isoscore_star.core.score import shrunk_score, unbiased_score  # noqa: E402

DIM, ZETA = 81, 0.2
RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(32, 10))
TOKENS = RNG.normal(size=(32, 3, 10))
MASK = np.arange(3) < 1 + np.arange(32)[:, None] % 3
COV = np.cov(RNG.normal(size=(300, DIM)).T * np.linspace(0.5, 2, DIM)[:, None])
POINTS = RNG.normal(size=(32, 6)) * np.linspace(0.3, 2, 6) + 4
SAMPLE = RNG.normal(size=(100, 6)) * 3 + 20
FEW = RNG.normal(size=(11, 5)) + 0.5
SENTENCES = RNG.normal(size=(3, 10, 4, 6)) + RNG.normal(size=(3, 10, 1, 6))
SHRUNK: dict[str, Any] = {"shrinkage_cov": COV, "zeta": ZETA, "lam": 3.0}
UNBIASED: dict[str, Any] = {"estimator": "unbiased", "groups": None}
HALVES: dict[str, Any] = {"estimator": "unbiased"}
ANCHORED: dict[str, Any] = {"shrinkage_cov": COV, "estimator": "anchored", "lam": 3.0}

# Inputs of the network, their mask, where the two ranks part them, and the arguments of the loss.
TRAINING: dict[str, tuple[np.ndarray, np.ndarray | None, int, dict[str, Any]]] = {
    "uneven": (ROWS, None, 20, SHRUNK),
    "uneven, unbiased": (ROWS, None, 20, UNBIASED),
    "without a target": (ROWS, None, 20, {"zeta": 0.0}),
    "masked": (TOKENS, MASK, 20, SHRUNK),
    "masked, unbiased": (TOKENS, MASK, 20, UNBIASED),
    "one rank masked out": (TOKENS, MASK & (np.arange(32) < 20)[:, None], 20, SHRUNK),
    "one rank masked out, unbiased": (TOKENS, MASK & (np.arange(32) < 20)[:, None], 20, UNBIASED),
    "halves": (TOKENS, MASK, 20, HALVES),
    "halves, an odd number on each rank": (TOKENS, None, 13, HALVES),
    "halves, one sequence on one rank": (TOKENS[:4], None, 3, HALVES),
    "halves, too few sequences": (TOKENS[:2], None, 1, HALVES),
    "anchored": (TOKENS, MASK, 20, ANCHORED),
    "anchored, one rank masked out": (TOKENS, MASK & (np.arange(32) < 20)[:, None], 20, ANCHORED),
    "anchored, one rank without rows": (ROWS, None, 32, ANCHORED),
    "one rank without rows": (ROWS, None, 32, SHRUNK),
    "one rank without rows, unbiased": (ROWS, None, 0, UNBIASED),
}
SHARDED = ("uneven", "uneven, unbiased", "halves", "anchored")
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

CUTS = (19, 1, 20, 32)
MET = ((0, 4, 25), (0, 4, 25, 31))
"""Sequences with tokens: one in the odd half, or two."""
"""Sequences of the first rank: odd, a single one, even, and all, so that the second sees none."""

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
    yield from covariances(rank)
    yield from cosines(rank)
    yield from moments(rank)
    yield from documented(rank)


def exchanged_bytes(inputs: Any) -> int:
    """Count what a rank sends in forward and backward of the anchored loss."""
    sent = 0
    all_reduce = dist.all_reduce

    def counting(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        sent += tensor.nbytes
        return all_reduce(tensor, *args, **kwargs)

    states = Network()(inputs)
    dist.all_reduce = counting
    try:
        iso.istar_loss(states, across="world", **ANCHORED).backward()
    finally:
        dist.all_reduce = all_reduce
    return sent


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

    yield "anchored/bytes", exchanged_bytes(part_of(TOKENS, 20, rank))

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


def encoder() -> Any:
    torch.manual_seed(0)
    return torch.nn.Linear(6, 6).double()


def covariances(rank: int) -> Iterator[tuple[str, Any]]:
    model, mine = torch.nn.parallel.DistributedDataParallel(encoder()), part_of(SAMPLE, 70, rank)

    def fitted(*most: int, **arguments: Any) -> Any:
        return ShrinkageCovariance(6, **arguments).fit(
            model, mine.split(16), *most, forward=lambda model, batch: (model(batch), None)
        )

    whole = fitted()
    yield "covariance/all", whole.cov
    yield "covariance/count", whole.count
    yield "covariance/cut", fitted(25).cov
    yield "covariance/own", fitted(sync=False).cov
    running = ShrinkageCovariance(6, "running", decay=0.5)
    for batch in (SAMPLE[:30], SAMPLE[30:], SAMPLE[:1]):  # the last is too small, and the second rank has none of it
        running.update([part_of(batch, 10, rank)], [None])
    yield "covariance/running", running.cov
    penalty = IStarLoss(6, estimator="anchored")
    for step, cut in enumerate((5, 10, 5)):  # of the second batch one rank has none
        yield f"following/{step}", penalty(part_of(SENTENCES[step], cut, rank))


def cosines(rank: int) -> Iterator[tuple[str, Any]]:
    for sync in ("auto", True, False):
        own = part_of(FEW, 8, rank).requires_grad_()
        loss = CosineRegularizer(lam=2.0, sync=sync)(own)
        yield f"cosine sync={sync}/loss", loss.detach()
        yield f"cosine sync={sync}/gradient", torch.autograd.grad(loss, own)[0]
    own = part_of(FEW, 8, rank).requires_grad_()
    loss = CosineRegularizer()(own, torch.zeros(len(own)) if rank else None)  # a rank without a single token
    loss.backward()
    yield "cosine empty/loss", loss.detach()
    yield "cosine empty/gradient", own.grad


def moments(rank: int) -> Iterator[tuple[str, Any]]:
    for cut in (20, 32):
        own = StreamingMoments(6, "cpu", fourth_order=True).update(part_of(POINTS, cut, rank)).reduce()
        yield f"moments {cut}/packed", own.packed()
    for cut in CUTS:
        own = StreamingMoments(10, "cpu", fourth_order=True)
        for batch, keep in sequences(cut, rank):
            own.update(batch, keep)
        yield f"halves {cut}", own.reduce().isoscore_unbiased()
        yield f"halves {cut}, groups", own.group_count
        for met in MET:
            own = StreamingMoments(10, "cpu", fourth_order=True)
            for batch, keep in sequences(cut, rank, mask_of(met)):
                own.update(batch, keep)
            yield f"halves {cut}, {met}", own.reduce().isoscore_unbiased()
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
    for cut in CUTS:
        metric = IsoScoreStar(10, estimator="unbiased")
        for batch, keep in sequences(cut, rank):
            metric.update(batch, keep)
        yield f"metric halves {cut}", metric.compute()


def sequences(cut: int, rank: int, mask: np.ndarray = MASK) -> Iterator[tuple[Any, Any]]:
    """Give a rank's sequences in batches, odd ones too."""
    if (cut if rank == 0 else 32 - cut) == 0:
        return iter(())
    return zip(part_of(TOKENS, cut, rank).split(3 + rank), part_of(mask, cut, rank).split(3 + rank), strict=True)


def mask_of(met: Sequence[int]) -> np.ndarray:
    """Give the mask of some sequences' tokens."""
    return np.isin(np.arange(32), met)[:, None] & np.ones(3, bool)


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
        yield f"documented {way}/penalty", given["penalty"].collect()["istar_penalty"]


def examples() -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "distributed.md").read_text(), flags=re.DOTALL)
    return [block for block in blocks if ">>>" not in block]


def far_points() -> np.ndarray:
    return (POINTS + 100 * POINTS.std(0)).astype(np.float32)


def of_rank(rank: int, folder: Path) -> None:
    main(rank, folder)
    sys.stdout.flush()
    # torch keeps groups beyond their end (a default argument of torch.distributed.nn does), and a thread of gloo's that
    # gives back a tensor while the interpreter ends aborts the process.
    os._exit(0)


if __name__ == "__main__":
    fork = "fork" in multiprocessing.get_all_start_methods()
    # Imported once for both: most of their time.
    for module in ("torch._dynamo", "isoscore_star.integrations.torchmetrics") if fork else ():
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)
    context = multiprocessing.get_context("fork" if fork else "spawn")
    ranks = [context.Process(target=of_rank, args=(rank, Path(sys.argv[1])), daemon=True) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(any(process.exitcode for process in ranks))
