"""A fit in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from adapters import ROOT

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")


RANKS = """
import gc, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import torch
from torch.utils.data import DataLoader, DistributedSampler
from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance
from isoscore_star.integrations.lightning import IStarCallback
from support_lightning import DIM, Plain, examples, fit

# Lightning's own sampler would shuffle. This one gives both ranks together the rows of one process's batches.
mine = DistributedSampler(examples(), num_replicas=2, rank=int(os.environ.get("LOCAL_RANK", 0)), shuffle=False)
part = DataLoader(examples(), 4, sampler=mine)

def run(policy, estimator, **options):
    model = Plain().double()
    shrinkage = ShrinkageCovariance(DIM, policy, decay=0.6)
    penalty = IStarLoss(DIM, lam=-1.0, zeta=0.5, shrinkage_cov=shrinkage, estimator=estimator)
    # Sequences have other numbers in one process, which has the two ranks' batches in turn.
    trainer = fit(model, IStarCallback(penalty, groups=None), accumulate_grad_batches=2, **options)
    score = float(trainer.callback_metrics["train/isoscore_star"])
    return {"model": model.state_dict(), "cov": shrinkage.cov, "score": score}, trainer.global_rank

kinds = [("epoch", "shrinkage"), ("running", "shrinkage"), ("epoch", "unbiased")]
two = [run(*kind, loaders=part, strategy="ddp", devices=2) for kind in kinds]
rank = two[0][1]
# Trainers are in reference cycles, and hold the group, whose threads may abort a process that ends before them.
gc.collect()
torch.distributed.destroy_process_group()
one = [run(*kind, batch_size=8)[0] for kind in kinds] if rank == 0 else None
torch.save({"two": [result for result, _ in two], "one": one}, f"{sys.argv[2]}/{rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    (tmp_path / "ranks.py").write_text(RANKS)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "ranks.py"), str(ROOT / "tests"), str(tmp_path)]
    done = subprocess.run(command, env=environment, timeout=240, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for here_two, there_two, one in zip(first["two"], second["two"], first["one"], strict=True):
        for name, value in one["model"].items():
            # Sums in another order: a few roundings (1e-16), which four steps of Adam make no thousand times more.
            assert torch.allclose(here_two["model"][name], value, rtol=0, atol=1e-12)
            assert torch.equal(here_two["model"][name], there_two["model"][name])
        assert here_two["score"] == pytest.approx(one["score"], rel=1e-6)  # logged in float32
        if one["cov"] is not None:
            assert torch.allclose(here_two["cov"], one["cov"], rtol=1e-9, atol=1e-12)
            assert torch.equal(here_two["cov"], there_two["cov"])
