"""`IStarLoss` and `CosineRegularizer` as `embedding_regularizer` of pytorch-metric-learning's losses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
losses = pytest.importorskip("pytorch_metric_learning.losses")

from pytorch_metric_learning import miners, reducers  # noqa: E402

from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer  # noqa: E402
from isoscore_star.backends.torch.modules.istar_loss import IStarLoss  # noqa: E402

LABELS = torch.arange(24) % 6


@pytest.fixture
def embeddings() -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(24, 8, dtype=torch.float64) * torch.linspace(0.3, 2, 8) + 0.5).requires_grad_()


@pytest.mark.parametrize(
    "make",
    [
        losses.TripletMarginLoss,
        losses.NTXentLoss,
        losses.ContrastiveLoss,
        lambda **given: losses.ArcFaceLoss(num_classes=6, embedding_size=8, **given).double(),
        lambda **given: losses.MultiSimilarityLoss(reducer=reducers.AvgNonZeroReducer(), **given),
    ],
)
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_loss_and_gradient_are_the_sum(embeddings: torch.Tensor, make: Any, weight: float) -> None:
    cov = torch.eye(8, dtype=torch.float64)
    penalty = IStarLoss(8, lam=2.0, zeta=0.2, shrinkage_cov=cov)
    torch.manual_seed(1)
    regularized = make(embedding_regularizer=penalty, embedding_reg_weight=weight)
    torch.manual_seed(1)
    plain = make()
    loss = regularized(embeddings, LABELS)
    expected = plain(embeddings, LABELS) + weight * iso.istar_loss(embeddings, cov, 0.2, 2.0)
    assert torch.allclose(loss, expected, rtol=1e-13)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    (truth,) = torch.autograd.grad(expected, embeddings)
    assert (gradient - truth).abs().max() < 1e-13 * truth.abs().max()
    assert "embedding_reg_loss" in regularized.sub_loss_names()
    score = float(iso.isoscore_star(embeddings.detach(), cov, 0.2))
    assert penalty.collect()["isoscore_star"] == pytest.approx(score, rel=1e-12)


def test_unbiased_and_with_a_miner(embeddings: torch.Tensor) -> None:
    penalty = IStarLoss(8, estimator="unbiased")
    loss = losses.TripletMarginLoss(embedding_regularizer=penalty)
    mined = miners.TripletMarginMiner()(embeddings, LABELS)
    expected = losses.TripletMarginLoss()(embeddings, LABELS, mined) + iso.istar_loss(embeddings, estimator="unbiased")
    assert torch.allclose(loss(embeddings, LABELS, mined), expected, rtol=1e-13)


def test_cosine_regularizer(embeddings: torch.Tensor) -> None:
    cosines = torch.nn.functional.cosine_similarity(embeddings[:, None], embeddings[None], dim=2)
    mean = (cosines.sum() - 24) / 24**2
    loss = losses.NTXentLoss(embedding_regularizer=CosineRegularizer(lam=0.5))
    expected = losses.NTXentLoss()(embeddings, LABELS) + 0.5 * mean
    assert torch.allclose(loss(embeddings, LABELS), expected, rtol=1e-13)


def test_training_makes_embeddings_more_isotropic() -> None:
    scores = {}
    for lam in (0.0, 1.0):
        torch.manual_seed(2)
        inputs, labels = torch.randn(96, 12) * torch.linspace(0.1, 2, 12), torch.arange(96) % 4
        trunk = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
        loss = losses.TripletMarginLoss(embedding_regularizer=IStarLoss(8, lam, estimator="unbiased"))
        optimizer = torch.optim.Adam(trunk.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            loss(trunk(inputs), labels).backward()
            optimizer.step()
        scores[lam] = float(iso.isoscore(trunk(inputs).detach()))
    assert scores[1.0] > scores[0.0] + 0.2


RANK = """
import sys
import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from isoscore_star.backends.torch import IStarLoss

rank, store, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
embeddings = torch.load(f"{folder}/embeddings.pt")[rank * 12 :][:12].requires_grad_()
penalty = IStarLoss(8, lam=2.0, estimator="unbiased", sync=False)
loss = DistributedLossWrapper(losses.NTXentLoss(embedding_regularizer=penalty))
loss(embeddings, torch.arange(12) % 6).backward()
torch.save(embeddings.grad / 2, f"{folder}/{rank}.pt")  # what DistributedDataParallel's mean makes of it
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_their_wrapper_for_distributed_runs(embeddings: torch.Tensor, tmp_path: Path) -> None:
    torch.save(embeddings.detach(), tmp_path / "embeddings.pt")
    command = [sys.executable, "-c", RANK]
    arguments = [[str(rank), str(tmp_path / "store"), str(tmp_path)] for rank in (0, 1)]
    processes = [subprocess.Popen([*command, *given], cwd=ROOT) for given in arguments]
    assert [process.wait(timeout=180) for process in processes] == [0, 0]
    whole = losses.NTXentLoss()(embeddings, LABELS) + iso.istar_loss(embeddings, lam=2.0, estimator="unbiased")
    (expected,) = torch.autograd.grad(whole, embeddings)
    found = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)])
    assert (found - expected).abs().max() < 1e-13 * expected.abs().max()
