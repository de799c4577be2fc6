"""One step and many of IStarTrainer, against training loops written by hand and against the plain Trainer."""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from support_huggingface import (  # noqa: E402
    DIM,
    LOGGED,
    albert,
    arguments,
    assert_same,
    bert,
    by_hand,
    covariance_of,
    data,
    distilbert,
    gpt2,
    llama,
    losses,
    made,
    minilm,
    stacked,
    t5,
    tolerance,
)
from transformers import (  # noqa: E402
    Trainer,
)

import isoscore_star as iso  # noqa: E402
from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.huggingface import IStarMixin, IStarTrainer  # noqa: E402


class Recording(IStarMixin, Trainer):
    """Keeps every batch that it trains on."""

    seen: list[dict[str, Any]]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.__dict__.setdefault("seen", []).append({name: value.clone() for name, value in inputs.items()})
        return super().training_step(model, inputs, num_items_in_batch)


@pytest.mark.parametrize("family", [bert, distilbert, albert, minilm, gpt2, llama, t5])
def test_one_step_of_each_family_equals_one_by_hand(family: Any, tmp_path: Path) -> None:
    model = made(family)
    rows = data(model)
    other = copy.deepcopy(model)
    trainer = IStarTrainer(model=model, args=arguments(tmp_path), train_dataset=rows, istar={"lam": 2.0, "zeta": 0.2})
    trainer.train()
    cov = covariance_of(other, rows)
    assert torch.allclose(trainer.istar.shrinkage.cov, cov, rtol=0, atol=1e-10 * float(cov.abs().max()))
    ((task, penalty),) = by_hand(other, [[stacked(rows)]], cov, lam=2.0)
    assert_same(model, other, tolerance(family))
    assert losses(trainer) == pytest.approx([task + penalty], abs=LOGGED)
    assert losses(trainer, "istar_penalty") == [pytest.approx(penalty, abs=1e-9)]
    assert losses(trainer, "isoscore_star") == [pytest.approx(1 - penalty / 2, abs=1e-9)]


@pytest.mark.parametrize(("rows", "steps"), [(8, 1), (16, 2), (20, 2), (24, 3)])
@pytest.mark.parametrize("family", [bert, llama])
def test_accumulation_equals_the_mean_over_micro_batches(family: Any, rows: int, steps: int, tmp_path: Path) -> None:
    model = made(family)
    rows_ = data(model, rows)
    other = copy.deepcopy(model)
    args = arguments(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=steps, num_train_epochs=2)
    trainer = Recording(model=model, args=args, train_dataset=rows_, istar={"lam": 1.5, "zeta": 0.2})
    if family is bert:  # its loss is a mean whatever it is told of the number of items
        trainer.model_accepts_loss_kwargs = False
    trainer.istar.shrinkage = ShrinkageCovariance(DIM, "fixed", shrinkage_cov=torch.eye(DIM).double())
    trainer.train()
    per_epoch = -(-rows // 4)
    epochs = [trainer.seen[:per_epoch], trainer.seen[per_epoch:]]
    windows = [epoch[i : i + steps] for epoch in epochs for i in range(0, per_epoch, steps)]
    means = by_hand(other, windows, torch.eye(DIM).double(), lam=1.5)
    assert_same(model, other, tolerance(family))
    assert losses(trainer) == pytest.approx([sum(pair) for pair in means], abs=LOGGED)
    assert losses(trainer, "istar_penalty") == pytest.approx([pair[1] for pair in means], abs=tolerance(family))


def test_a_head_that_ignores_the_number_of_items_keeps_the_weight_of_lam(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = made(bert)
    rows = data(model, 16)
    other, plain = copy.deepcopy(model), copy.deepcopy(model)
    args = arguments(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    with caplog.at_level(logging.WARNING, "isoscore_star"):
        istar = {"lam": 1.5, "zeta": 0.2, "shrinkage_cov": torch.eye(DIM).double()}
        trainer = Recording(model=model, args=args, train_dataset=rows, istar=istar)
        trainer.train()
    assert [r.message for r in caplog.records if "num_items_in_batch" in r.message and "2 times" in r.message]
    assert len(caplog.records) == 1
    # transformers makes the loss and its gradient twice too large, so that half the rate gives the same weights.
    windows = [trainer.seen[:2], trainer.seen[2:]]
    means = by_hand(other, windows, torch.eye(DIM).double(), lam=1.5, lr=0.2)
    assert_same(model, other, 1e-9)
    assert losses(trainer) == pytest.approx([2 * sum(pair) for pair in means], abs=LOGGED)
    # And it is so without I-STAR.
    upstream = Trainer(model=plain, args=args, train_dataset=rows)
    upstream.train()
    assert upstream.state.log_history[0]["loss"] == pytest.approx(2 * means[0][0], abs=LOGGED)


def drawing_collator(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw from every generator, as augmentation does."""
    np.random.random()  # noqa: NPY002
    random.random()
    torch.rand(())
    return transformers.default_data_collator(rows)


@pytest.mark.parametrize("steps", [1, 2])
def test_lam_zero_equals_the_plain_trainer_bit_for_bit(steps: int, tmp_path: Path) -> None:
    results = []
    # So few points that the pass over the data is left early.
    penalty = IStarLoss(DIM, 0.0, 0.2, ShrinkageCovariance(DIM, max_points=30))
    for kind, more in ((Trainer, {}), (IStarTrainer, {"istar": penalty})):
        model = made(lambda: bert(dropout=0.1), torch.float32)
        rows = data(model, 32)
        args = arguments(
            tmp_path, optim="adamw_torch", learning_rate=1e-2, num_train_epochs=2, eval_strategy="steps",
            eval_steps=2, per_device_train_batch_size=4, gradient_accumulation_steps=steps, max_grad_norm=1.0,
        )  # fmt: skip
        trainer = kind(
            model=model, args=args, train_dataset=rows, eval_dataset=rows[:10], data_collator=drawing_collator, **more
        )
        trainer.train()
        states = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
        results.append((model, losses(trainer), states, trainer))
    (model, loss, state, _), (other, other_loss, other_state, trainer) = results
    assert_same(model, other)
    assert loss == other_loss
    assert state == other_state
    assert 0 < losses(trainer, "isoscore_star")[0] < 1


def test_penalty_changes_with_the_schedule(tmp_path: Path) -> None:
    model = made(bert)
    schedule = iso.LambdaSchedule(2.0, total_steps=4, warmup_steps=2)
    args = arguments(tmp_path, max_steps=4)
    trainer = IStarTrainer(
        model=model, args=args, train_dataset=data(model), istar={"zeta": 0.0}, lam_schedule=schedule
    )
    trainer.train()
    scores = losses(trainer, "isoscore_star")
    expected = [schedule(step) * (1 - score) for step, score in enumerate(scores)]
    assert losses(trainer, "istar_penalty") == pytest.approx(expected, abs=1e-12)
    assert expected[0] == 0 < expected[1] < expected[2]
