"""IStarTrainer in two processes, and what has to be freed before they end."""

from __future__ import annotations

import copy
import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from adapters import ROOT

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from support_huggingface import arguments, bert, data, llama, losses, made  # noqa: E402
from transformers import (  # noqa: E402
    Trainer,
)

from isoscore_star.integrations.huggingface import IStarTrainer  # noqa: E402


def results_of(family: Any, folder: Path, processes: int) -> dict[str, Any]:
    """Train and evaluate one model."""
    model = made(family)
    rows = data(model, 24)
    # The loss of BERT's head ignores num_items_in_batch and so grows by the number of processes.
    rate = 0.1 / processes if family is bert else 0.1
    args = arguments(folder / str(processes), per_device_train_batch_size=8 // processes, num_train_epochs=2,
                     learning_rate=rate, per_device_eval_batch_size=5)  # fmt: skip
    trainer = IStarTrainer(
        model=model, args=args, train_dataset=rows, eval_dataset=rows[:11], istar={"lam": 1.0, "zeta": 0.3}
    )
    trainer.train()
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return {
        "weights": weights[:: len(weights) // 500].tolist(),
        "scores": losses(trainer, "isoscore_star"),
        "eval": trainer.evaluate()["eval_isoscore_star"],
        "cov": trainer.istar.shrinkage.cov.flatten().tolist(),
    }


def distributed_run(folder: Path) -> None:
    """Run by one process with batches of 8 and by two with batches of 4."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    results = {family.__name__: results_of(family, folder, processes) for family in (llama, bert)}
    if os.environ.get("RANK", "0") == "0":
        (folder / f"{processes}.json").write_text(json.dumps(results))
    if torch.distributed.is_initialized():
        # Only with the last holder of the group do its threads end, and one that is still at work when the interpreter
        # ends aborts the process. A Trainer may be in reference cycles, by some versions of transformers.
        gc.collect()
        torch.distributed.destroy_process_group()


def test_a_trainer_is_freed_as_soon_as_a_plain_one(tmp_path: Path) -> None:
    """Until then a distributed one holds the process group, whose threads must end before the interpreter does."""
    freed = []
    for kind, more in ((Trainer, {}), (IStarTrainer, {"istar": {"zeta": 0.2}})):
        model = made(bert)
        trainer = kind(model=model, args=arguments(tmp_path), train_dataset=data(model), **more)
        trainer.train()
        found = weakref.ref(trainer)
        gc.disable()
        try:
            del trainer
            freed.append(found() is None)
        finally:
            gc.enable()
    assert freed[1] or not freed[0]


def test_a_copied_trainer_reads_its_own_covariance(tmp_path: Path) -> None:
    model = made(bert)
    trainer = IStarTrainer(model=model, args=arguments(tmp_path), train_dataset=data(model), istar={"zeta": 0.2})
    copied = copy.deepcopy(trainer)
    copied.train()
    assert copied.istar.shrinkage.cov is not None
    assert trainer.istar.shrinkage.cov is None


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    distributed_run(tmp_path)
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    for family in one:
        for name, value in one[family].items():
            assert two[family][name] == pytest.approx(value, abs=1e-10), (family, name)


if __name__ == "__main__":
    distributed_run(Path(sys.argv[1]))
