"""IStarTrainer with other models, losses and penalties, against the same by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
import torch.nn.functional as F  # noqa: E402, N812
from support_huggingface import (  # noqa: E402
    DIM,
    Plain,
    algorithm_1,
    arguments,
    assert_same,
    bert,
    data,
    losses,
    made,
    points_of,
    stacked,
    t5,
)
from transformers import (  # noqa: E402
    Trainer,
)

from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer  # noqa: E402
from isoscore_star.integrations.huggingface import IStarMixin, IStarTrainer  # noqa: E402


class WithOwnLoss(Trainer):
    """Runs the model twice and computes the loss itself, as users' subclasses do."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")
        short = {name: value[:, :5] for name, value in inputs.items()}
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits + model(short["input_ids"], short["attention_mask"]).logits, labels)
        return (loss, outputs) if return_outputs else loss


def test_subclass_with_its_own_loss_and_two_calls(tmp_path: Path) -> None:
    class Ours(IStarMixin, WithOwnLoss):
        pass

    model = made(bert)
    rows = data(model)
    other = copy.deepcopy(model)
    trainer = Ours(model=model, args=arguments(tmp_path), train_dataset=rows, istar={"lam": 1.0, "zeta": 0.0})
    trainer.train()
    batch = stacked(rows)
    short = {name: value[:, :5] if value.ndim == 2 else value for name, value in batch.items()}
    logits, points = points_of(other, batch)
    short_logits, short_points = points_of(other, short)
    score = algorithm_1(torch.cat([points, short_points]))
    (F.cross_entropy(logits + short_logits, batch["labels"]) + 1 - score).backward()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter -= 0.1 * parameter.grad
    assert_same(model, other, 1e-9)
    assert losses(trainer, "isoscore_star") == [pytest.approx(score.item(), abs=1e-9)]


def test_model_that_returns_no_states_is_hooked(tmp_path: Path) -> None:
    model = made(Plain)
    rows = data(model)
    other = copy.deepcopy(model)
    trainer = IStarTrainer(
        model=model, args=arguments(tmp_path), train_dataset=rows, eval_dataset=rows, istar={"dim": DIM, "zeta": 0.2}
    )
    trainer.train()
    batch = stacked(rows)

    def states() -> Any:
        first = other.blocks[0](other.embed(batch["input_ids"]))
        return torch.cat([first.flatten(0, 1), other.blocks[1](first).flatten(0, 1)])

    cov = torch.cov(states().detach().T)
    (other(**batch)["loss"] + 1 - algorithm_1(states(), 0.2, cov)).backward()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter -= 0.1 * parameter.grad
    assert_same(model, other, 1e-9)
    expected = algorithm_1(states()).item()
    assert trainer.evaluate()["eval_isoscore_star"] == pytest.approx(expected, abs=1e-9)


def test_named_modules_equal_returned_states(tmp_path: Path) -> None:
    models = []
    for more in ({"istar": {"zeta": 0.2}}, {"istar": {"zeta": 0.2}, "istar_modules": "bert.encoder.layer.*"}):
        model = made(bert)
        IStarTrainer(model=model, args=arguments(tmp_path), train_dataset=data(model), **more).train()
        models.append(model)
    assert_same(*models)


def test_encoder_alone_by_its_layers(tmp_path: Path) -> None:
    model = made(t5)
    rows = data(model)
    trainer = IStarTrainer(model=model, args=arguments(tmp_path), istar={"zeta": 0.0, "layers": [1, 2]})
    model.train()
    trainer.compute_loss(model, stacked(rows))
    states = model(**stacked(rows), output_hidden_states=True).encoder_hidden_states[1:]
    mask = stacked(rows)["attention_mask"].bool()
    expected = algorithm_1(torch.cat([state[mask] for state in states]))
    assert trainer.istar.collect()["isoscore_star"] == pytest.approx(expected.item(), abs=1e-12)


def test_cosine_regularizer_takes_the_same_place(tmp_path: Path) -> None:
    model = made(bert)
    trainer = IStarTrainer(
        model=model, args=arguments(tmp_path), train_dataset=data(model), istar=CosineRegularizer(layers=[-1])
    )
    trainer.train()
    assert {"cosine_similarity", "cosine_loss"} <= set(trainer.state.log_history[0])
