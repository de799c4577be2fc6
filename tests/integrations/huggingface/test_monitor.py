"""`IsotropyMonitorCallback` in a Trainer: what it logs, against formulas, and that it changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
from support_huggingface import DIM, arguments, assert_same, bert, data, made, stacked  # noqa: E402
from transformers import Trainer, TrainerCallback  # noqa: E402

from isoscore_star.integrations.huggingface import IsotropyMonitorCallback  # noqa: E402


class StatesBeforeSteps(TrainerCallback):
    """Computes the states of a known batch with the weights that each step begins with."""

    def __init__(self, batch: Any) -> None:
        self.batch, self.states = batch, []

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        with torch.no_grad():
            model.eval()
            self.states.append([h.numpy() for h in model(**self.batch, output_hidden_states=True).hidden_states])
            model.train()


def train(folder: Path, *, monitored: bool, **more: Any) -> tuple[Any, Any]:
    model = made(bert)
    rows = data(model, 8)
    watch = StatesBeforeSteps(stacked(rows))
    trainer = Trainer(model, arguments(folder, num_train_epochs=5, **more), train_dataset=rows, callbacks=[watch])
    if monitored:
        trainer.add_callback(IsotropyMonitorCallback(trainer, every=2))
    trainer.train()
    return trainer, watch


def halves(clouds: list[np.ndarray], mask: np.ndarray) -> float:
    covariances = [np.cov(np.concatenate([cloud[start::2][mask[start::2]] for cloud in clouds]).T) for start in (0, 1)]
    a, b = covariances
    return float((np.trace(a) * np.trace(b) / (a * b).sum() - 1) / (DIM - 1))


def test_log(tmp_path: Path) -> None:
    trainer, watch = train(tmp_path, monitored=True, train_sampling_strategy="sequential")
    mask = watch.batch["attention_mask"].numpy() != 0
    rows = [row for row in trainer.state.log_history if "isoscore_star" in row]
    assert [row["step"] for row in rows] == [1, 2, 4]
    for row in rows:
        states = watch.states[row["step"] - 1]
        for layer in (1, 2):
            assert row[f"isoscore_star/layer_{layer:02d}"] == pytest.approx(halves([states[layer]], mask), rel=1e-9)
        assert row["isoscore_star"] == pytest.approx(halves(states[1:], mask), rel=1e-9)


def test_training_and_log_of_the_loss_stay_the_same(tmp_path: Path) -> None:
    plain, _ = train(tmp_path / "a", monitored=False)
    monitored, _ = train(tmp_path / "b", monitored=True)
    assert_same(plain.model, monitored.model)
    lines = [[row["loss"] for row in trainer.state.log_history if "loss" in row] for trainer in (plain, monitored)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 5
    hooks = [sum(len(module._forward_hooks) for module in t.model.modules()) for t in (plain, monitored)]
    assert hooks[0] == hooks[1]  # transformers has some of its own


def test_resumed_steps_count_on(tmp_path: Path) -> None:
    train(tmp_path, monitored=True, save_strategy="steps", save_steps=3)
    model = made(bert)
    trainer = Trainer(model, arguments(tmp_path, num_train_epochs=8), train_dataset=data(model, 8))
    trainer.add_callback(IsotropyMonitorCallback(trainer, every=2))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    steps = [row["step"] for row in trainer.state.log_history if "isoscore_star" in row]
    assert steps == [1, 2, 4, 6, 8]


def test_a_trainer_is_needed() -> None:
    with pytest.raises(iso.InvalidTypeError, match=r"trainer\.add_callback\(IsotropyMonitorCallback\(trainer\)\)"):
        IsotropyMonitorCallback("encoder.layer.*")
