"""Runs of IStarTrainer that are resumed, or started anew."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from support_huggingface import DIM, arguments, assert_same, bert, data, losses, made  # noqa: E402
from transformers import (  # noqa: E402
    Trainer,
)

import isoscore_star as iso  # noqa: E402
from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.huggingface import IStarTrainer  # noqa: E402


@pytest.mark.parametrize("policy", ["epoch", "running"])
@pytest.mark.parametrize("at", [3, 4])
def test_resumed_run_equals_one_that_never_stopped(policy: str, at: int, tmp_path: Path) -> None:
    def trainer(folder: Path, seed: int) -> Any:
        model = made(lambda: bert(dropout=0.1), torch.float32, seed)
        args = arguments(
            folder, optim="adamw_torch", learning_rate=1e-2, lr_scheduler_type="linear", num_train_epochs=3,
            per_device_train_batch_size=4, save_strategy="steps", save_steps=at, logging_steps=at,
        )  # fmt: skip
        istar = IStarLoss(DIM, 1.0, 0.4, ShrinkageCovariance(DIM, policy, skip_embeddings=True), skip_embeddings=True)
        schedule = iso.LambdaSchedule(1.0, total_steps=12, warmup_steps=5, shape="cosine")
        return IStarTrainer(model=model, args=args, train_dataset=data(model, 16), istar=istar, lam_schedule=schedule)

    whole, resumed = trainer(tmp_path, 0), trainer(tmp_path, 1)
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert_same(whole.model, resumed.model)
    assert_same(whole.istar, resumed.istar)
    assert whole.istar.log.start is not None
    assert losses(whole)[1:] == losses(resumed)[1:]
    assert losses(whole, "isoscore_star") == losses(resumed, "isoscore_star")

    last = trainer(tmp_path, 2)
    last.train(resume_from_checkpoint=True)
    assert_same(whole.model, last.model)


def test_only_checkpoints_hold_a_further_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = []
    for kind, more in ((Trainer, {}), (IStarTrainer, {"istar": {}})):
        model, folder = made(bert), tmp_path / kind.__name__
        args = arguments(folder, save_strategy="epoch")
        trainer = kind(model=model, args=args, train_dataset=data(model), **more)
        trainer.train()
        trainer.save_model(folder / "saved")
        trainer.model.save_pretrained(folder / "pretrained")
        names = ("checkpoint-1", "saved", "pretrained")
        files.append([{path.name for path in (folder / name).iterdir()} for name in names])
    plain, ours = files
    assert ours[0] - plain[0] == {"isoscore_star.safetensors"}
    assert (ours[1:], plain[0] - ours[0]) == (plain[1:], set())

    from safetensors.torch import load_file

    saved = load_file(tmp_path / "IStarTrainer" / "checkpoint-1" / "isoscore_star.safetensors")
    assert torch.equal(saved["shrinkage.cov"], trainer.istar.shrinkage.cov)
    with caplog.at_level(logging.WARNING, "isoscore_star"):  # a checkpoint of the plain Trainer
        args = arguments(tmp_path / "Trainer", num_train_epochs=2)
        trainer = IStarTrainer(model=model, args=args, train_dataset=data(model), istar={})
        trainer.train(resume_from_checkpoint=True)
    assert "saved without I-STAR" in caplog.text
    assert trainer.state.global_step == 2


@pytest.mark.parametrize(
    "penalty",
    [
        lambda: IStarLoss(DIM, 1.0, 0.5, ShrinkageCovariance(DIM, "running")),
        lambda: {"reduction": "mean"},  # of the anchored loss, whose layers are not known before the first step
    ],
)
def test_each_trial_starts_anew(tmp_path: Path, penalty: Callable[[], Any]) -> None:
    args = arguments(tmp_path, max_steps=2)
    rows = data(made(bert))
    trainer = IStarTrainer(model_init=lambda: made(bert), args=args, train_dataset=rows, istar=penalty())
    runs = []
    for _ in range(2):
        trainer.train()
        runs.append((copy.deepcopy(trainer.model), losses(trainer)))
    assert_same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
