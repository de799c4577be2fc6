"""Training in two processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from adapters import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from support_sentence_transformers import similarity_trainer  # noqa: E402

RANK = """
import gc, sys, warnings
warnings.simplefilter("ignore")
import torch
from pathlib import Path
from support_sentence_transformers import similarity_trainer

trainer = similarity_trainer(Path(sys.argv[1]), Path(sys.argv[2]), batch=3)
trainer.train()
assert type(trainer.loss.model).__name__ == type(trainer.loss.loss.model).__name__ == "DistributedDataParallel"
if trainer.args.process_index == 0:
    torch.save([*trainer.model.state_dict().values(), trainer.loss.penalty.shrinkage.cov], sys.argv[3])
# Its DDP model holds the group, whose threads would otherwise outlive it, and may abort a process that ends.
del trainer
gc.collect()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_global_batch(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), shared.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", RANK, str(folder), str(tmp_path / "out"), str(tmp_path / "result.pt")]
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment) for environment in ranks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = similarity_trainer(folder, tmp_path / "alone", batch=6)
        alone.train()
    assert [process.wait(timeout=180) for process in processes] == [0, 0]
    # The labels' loss is a mean over pairs, so that of the global batch is the mean of the ranks'; the penalty is the
    # global batch's on every rank. Σ_S is read by both ranks, half of the texts each.
    expected = [*alone.model.state_dict().values(), alone.loss.penalty.shrinkage.cov]
    for ours, truth in zip(torch.load(tmp_path / "result.pt"), expected, strict=True):
        assert (ours - truth).abs().max() < 1e-12 * truth.abs().max() + 1e-15
