"""What `IStarCallback` logs, and when."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, ByHand, Plain, Recorder, fit  # noqa: E402

from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402


def test_means_of_the_score_are_logged() -> None:
    by_hand = ByHand(IStarLoss(DIM, zeta=0.0, lam=-0.5)).double()
    fit(by_hand, max_epochs=1, batch_size=3)
    recorder, model = Recorder(), Plain().double()
    penalty = IStarLoss(DIM, zeta=0.0, lam=-0.5, log_layers=True)
    trainer = fit(model, IStarCallback(penalty), max_epochs=1, batch_size=3, logger=recorder, log_every_n_steps=3)
    assert len(by_hand.scores) == 8
    expected = [sum(by_hand.scores[i : i + 3]) / len(by_hand.scores[i : i + 3]) for i in (0, 3, 6)]
    rows = [row for _, row in recorder.rows if "train/isoscore_star" in row]
    assert [row["train/isoscore_star"] for row in rows] == pytest.approx(expected, rel=1e-6)
    assert [row["train/istar_penalty"] for row in rows] == pytest.approx([-0.5 * (1 - e) for e in expected], rel=1e-6)
    assert {f"train/isoscore_star/layer_{i:02d}" for i in range(2)} < set(rows[0])
    assert trainer.callback_metrics["train/isoscore_star"] == pytest.approx(expected[-1], rel=1e-6)
    assert "training_step" not in vars(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_logs_only_complete_steps_under_accumulation() -> None:
    recorder = Recorder()
    fit(
        Plain(),
        IStarCallback(IStarLoss(DIM, zeta=0.0)),
        logger=recorder,
        accumulate_grad_batches=3,
        log_every_n_steps=1,
    )
    steps = [step for step, row in recorder.rows if "train/isoscore_star" in row]
    assert steps == [0, 1, 2, 3]  # six batches an epoch make two steps
