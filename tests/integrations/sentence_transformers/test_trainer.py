"""The trainer of sentence-transformers with the loss and the callback."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from support_sentence_transformers import (  # noqa: E402
    ANCHORS,
    POSITIVES,
    close,
    features,
    gradients,
    rows_of_states,
    shrinking,
    unbiased,
    union_of_states,
)
from transformers import TrainerCallback  # noqa: E402

from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IsoScoreStarEvaluator,
    IStarCallback,
    IStarLoss,
)


class Seen(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def test_trainer_logs_trains_and_refreshes(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    covariances, refresh = [], IStarLoss.refresh

    def noting(self: Any, texts: Any, **kwargs: Any) -> None:
        refresh(self, texts, **kwargs)
        covariances.append(self.penalty.shrinkage.cov.clone())

    monkeypatch.setattr(IStarLoss, "refresh", noting)
    seen = Seen()
    evaluator = IsoScoreStarEvaluator(ANCHORS + POSITIVES, name="dev")
    trainer = trained(
        shrinking,
        callbacks=lambda loss: [IStarCallback(loss), seen],
        evaluator=evaluator,
        num_train_epochs=2,
        eval_strategy="epoch",
    )
    before = union_of_states(trainer.model, ANCHORS, POSITIVES).detach().numpy()
    trainer.train()
    assert len(covariances) == 2  # before each epoch, from all rows of both columns
    assert np.abs(covariances[0].numpy() - np.cov(before.T)).max() < 1e-12 * np.abs(covariances[0].numpy()).max()
    assert not torch.allclose(covariances[0], covariances[1])
    steps = [log for log in seen.logs if "loss" in log]
    assert len(steps) == 4
    for log in steps:
        assert log["loss"] == pytest.approx(
            log["task_loss"] + log["istar_penalty"], abs=3e-4
        )  # each is rounded to 4 digits
        assert log["istar_penalty"] == pytest.approx(0.5 * (1 - log["isoscore_star"]), abs=1e-4)
    evaluated = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert all(0 < log["eval_dev_isoscore_star"] < 1 for log in evaluated)
    assert not any("eval_istar_penalty" in log for log in evaluated)
    assert sum("isoscore_star" in log for log in trainer.state.log_history) == 4


def of_points(model: Any) -> Any:
    return IStarLoss(model, losses.MultipleNegativesRankingLoss(model), lam=0.5, zeta=0.0)


# Two halves of three rows would train nothing.
@pytest.mark.parametrize(
    ("accumulation", "loss", "arguments"),
    [(1, unbiased, {"estimator": "unbiased"}), (1, of_points, {"zeta": 0.0}), (2, of_points, {"zeta": 0.0})],
)
def test_a_step_of_the_trainer_is_the_gradient_by_hand(
    trained: Any, accumulation: int, loss: Any, arguments: dict[str, Any]
) -> None:
    trainer = trained(
        loss, per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation, max_steps=1
    )
    model = trainer.model
    start = [p.detach().clone() for p in model.parameters()]
    order = list(trainer.get_train_dataloader())  # the same seed gives the same order again
    rows = [batch["anchor_input_ids"] for batch in order]
    anchors = [[sentence(model, ids) for ids in part] for part in rows]
    expected = [torch.zeros_like(p) for p in start]
    model.train()
    for part in anchors:
        positives = [POSITIVES[ANCHORS.index(anchor)] for anchor in part]
        task = losses.MultipleNegativesRankingLoss(model)(features(model, part, positives), None)
        states = union_of_states(model, part, positives)
        rows_of_batch = rows_of_states(model, part, positives)
        whole = task + iso.istar_loss(states, lam=0.5, groups=rows_of_batch, **arguments)
        for sums, gradient in zip(expected, gradients(model, whole), strict=True):
            sums += gradient / accumulation
    trainer = trained(
        loss, per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation, max_steps=1
    )
    trainer.train()
    moved = [(old - new.detach()) / 0.05 for old, new in zip(start, trainer.model.parameters(), strict=True)]
    close(moved, expected, 1e-10)  # the difference of two weights loses some digits


def sentence(model: Any, ids: torch.Tensor) -> str:
    return model.tokenizer.decode(ids, skip_special_tokens=True)


def test_bf16_autocast_leaves_the_penalty_in_float32(trained: Any) -> None:
    trainer = trained(unbiased, bf16=True)
    trainer.model.float()
    kinds = []
    trainer.loss.penalty.register_forward_hook(lambda module, args, output: kinds.append(output.dtype))
    trainer.train()
    assert kinds == [torch.float32] * 2
    assert all(np.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)


def test_isotropy_rises_and_falls_with_lam(trained: Any) -> None:
    scores = {}
    for lam in (-5.0, 5.0):
        trainer = trained(
            lambda model, lam=lam: IStarLoss(
                model, losses.MultipleNegativesRankingLoss(model), lam=lam, estimator="anchored"
            ),
            num_train_epochs=10,
            learning_rate=0.02,
            logging_steps=100,
        )
        before = iso.isoscore(union_of_states(trainer.model, ANCHORS).detach()).item()
        trainer.train()
        scores[lam] = iso.isoscore(union_of_states(trainer.model, ANCHORS).detach()).item() - before
    assert scores[-5.0] < 0 < scores[5.0]


def test_the_example_of_the_documentation(trained: Any) -> None:
    source = (ROOT / "docs" / "sentence_transformers.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", source, flags=re.DOTALL)
    assert len(example.splitlines()) < 15
    ready = trained(unbiased)
    names = {"model": ready.model, "args": ready.args, "pairs": ready.train_dataset, "sentences": ANCHORS}
    exec(compile(example, "docs/sentence_transformers.md", "exec"), names)
    assert names["loss"].penalty.shrinkage.cov is not None
    assert any("isoscore_star" in log for log in names["trainer"].state.log_history)
