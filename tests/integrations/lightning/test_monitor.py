"""`IsotropyMonitorCallback` in Lightning: what it logs, whether or not the module itself is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, Plain, Recorder, difference, fit  # noqa: E402

from isoscore_star.integrations.lightning import IsotropyMonitorCallback  # noqa: E402


class Kept(Plain):
    """Keeps states and masks of each training step; calls itself, or its parts alone."""

    def __init__(self, parts: bool, manual: bool = False) -> None:
        super().__init__()
        self.parts, self.kept = parts, []
        self.automatic_optimization = not manual

    def states(self, ids: Any) -> Any:
        states = super().states(ids)
        if self.training:
            self.last = [state.detach().double().numpy() for state in states]
        return states

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.parts:
            prediction = self.answer_of(self.states(batch["ids"])[-1], batch["attention_mask"])
        else:
            prediction = self(batch["ids"], batch["attention_mask"])
        self.kept.append((self.last, batch["attention_mask"].numpy() != 0))
        loss = (prediction - batch["labels"]).square().mean()
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss


def halves(layers: list[np.ndarray], mask: np.ndarray) -> float:
    a, b = (np.cov(np.concatenate([x[start::2][mask[start::2]] for x in layers]).T) for start in (0, 1))
    return float((np.trace(a) * np.trace(b) / (a * b).sum() - 1) / (DIM - 1))


@pytest.mark.parametrize(("parts", "manual"), [(False, False), (True, False), (True, True)])
def test_log(parts: bool, manual: bool) -> None:
    recorder, model = Recorder(), Kept(parts, manual).double()
    trainer = fit(model, IsotropyMonitorCallback("layers.*", every=4), batch_size=8, logger=recorder, max_epochs=3)
    rows = {step: row for step, row in recorder.rows if "train/isoscore_star" in row}
    assert list(rows) == [0, 3, 7]
    for step, row in rows.items():
        layers, mask = model.kept[step]
        for number, layer in enumerate(layers):
            assert row[f"train/isoscore_star/layer_{number:02d}"] == pytest.approx(halves([layer], mask), rel=1e-9)
        assert row["train/isoscore_star"] == pytest.approx(halves(layers, mask), rel=1e-9)
    assert float(trainer.callback_metrics["train/isoscore_star"]) == pytest.approx(row["train/isoscore_star"], rel=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_changes_nothing_and_counts_optimizer_steps() -> None:
    plain, model, recorder = Plain().double(), Plain().double(), Recorder()
    fit(plain, accumulate_grad_batches=2)
    fit(model, IsotropyMonitorCallback("layers.*", every=3), accumulate_grad_batches=2, logger=recorder)
    assert difference(plain, model) == 0
    assert [step for step, row in recorder.rows if "train/isoscore_star" in row] == [0, 2, 5]


def test_checkpoints_hold_the_first_scores(tmp_path: Any) -> None:
    first = IsotropyMonitorCallback("layers.*", every=4)
    trainer = fit(Plain(), first, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    second, recorder, model = IsotropyMonitorCallback("layers.*", every=4), Recorder(), Plain()
    resumed = pl.Trainer(
        callbacks=[second], max_epochs=2, logger=recorder, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    from support_lightning import examples
    from torch.utils.data import DataLoader

    resumed.fit(model, DataLoader(examples(torch.float32), 4), ckpt_path=tmp_path / "some.ckpt")
    assert second.monitor.first == first.monitor.first
    assert [step for step, row in recorder.rows if "train/isoscore_star" in row] == [7, 11]
