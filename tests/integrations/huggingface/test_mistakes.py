"""What IStarTrainer says of mistakes."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from support_huggingface import DIM, Plain, arguments, bert, data, made  # noqa: E402
from transformers import (  # noqa: E402
    Trainer,
)

import isoscore_star as iso  # noqa: E402
from isoscore_star.integrations.huggingface import IStarMixin, IStarTrainer  # noqa: E402


@pytest.mark.parametrize(
    ("model", "given", "error", "message"),
    [
        (bert, {"istar": 1.0}, iso.InvalidTypeError, "expected an IStarLoss"),
        (bert, {"lam_schedule": 1.0}, iso.InvalidTypeError, "function of the step"),
        (bert, {"istar": {"reduction": "none"}}, iso.InvalidValueError, "reduction"),
        (Plain, {"istar": {"zeta": 0.0}}, iso.InvalidValueError, r'hidden_size.*"dim"'),
        (Plain, {"istar": {"dim": DIM, "skip_embeddings": True}}, iso.InvalidValueError, "skip_embeddings"),
    ],
)
def test_arguments_that_do_not_fit(model: Any, given: Any, error: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        IStarTrainer(model=made(model), args=arguments(tmp_path), **given)


def test_no_data_to_read_the_covariance_from(tmp_path: Path) -> None:
    with pytest.raises(iso.InvalidValueError, match="get_shrinkage_dataloader"):
        IStarTrainer(model=made(bert), args=arguments(tmp_path), istar={}).get_shrinkage_dataloader()


def test_a_loss_of_another_model(tmp_path: Path) -> None:
    class Elsewhere(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            return another(**inputs).loss

    class Ours(IStarMixin, Elsewhere):
        pass

    model = made(bert)
    another = copy.deepcopy(model)
    trainer = Ours(model=model, args=arguments(tmp_path), train_dataset=data(model), istar={"zeta": 0.0})
    with pytest.raises(iso.InvalidValueError, match="did not call the model"):
        trainer.train()


def test_a_model_that_takes_the_question_and_does_not_answer(tmp_path: Path) -> None:
    class Swallowing(Plain):
        def forward(self, input_ids: Any, labels: Any = None, **_: Any) -> Any:
            return super().forward(input_ids, labels)

    model = made(Swallowing)
    istar = {"zeta": 0.0, "dim": DIM}
    trainer = IStarTrainer(model=model, args=arguments(tmp_path), train_dataset=data(model), istar=istar)
    with pytest.raises(iso.InvalidValueError, match=r"no hidden states.*istar_modules"):
        trainer.train()


def test_a_trainer_in_front_that_leaves_the_penalty_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Forgetful(IStarTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            return model(**inputs).loss

    model = made(bert)
    with caplog.at_level(logging.WARNING, "isoscore_star"):
        Forgetful(model=model, args=arguments(tmp_path), train_dataset=data(model), istar={"zeta": 0.0}).train()
    assert "never computed" in caplog.text


def test_a_frozen_model(tmp_path: Path) -> None:
    model = made(bert)
    for parameter in model.bert.parameters():
        parameter.requires_grad = False
    frozen = IStarTrainer(model=model, args=arguments(tmp_path), train_dataset=data(model), istar={"zeta": 0.0})
    with pytest.raises(iso.InvalidValueError, match="frozen"):
        frozen.train()
