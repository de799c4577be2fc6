"""Evaluation with IStarTrainer: as without, and the score of the whole set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from support_huggingface import algorithm_1, arguments, bert, data, made, points_of, stacked, t5  # noqa: E402
from transformers import (  # noqa: E402
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
)

from isoscore_star.integrations.huggingface import IStarMixin, IStarTrainer  # noqa: E402


def test_evaluation_is_as_without_and_measures_the_whole_set(tmp_path: Path) -> None:
    model = made(bert)
    rows = data(model, 10)
    seen = []

    def compute_metrics(prediction: Any) -> dict[str, float]:
        seen.append(prediction)
        return {"ones": float((prediction.predictions.argmax(-1) == 1).mean())}

    results = []
    for kind, more in ((Trainer, {}), (IStarTrainer, {"istar": {"log_layers": True}})):
        trainer = kind(
            model=model, args=arguments(tmp_path), eval_dataset=rows, compute_metrics=compute_metrics, **more
        )
        results.append((trainer.evaluate(), trainer.predict(rows)))
    (plain, plain_predictions), (ours, our_predictions) = results
    added = {name for name in ours if "isoscore_star" in name}
    assert added == {"eval_isoscore_star", "eval_isoscore_star/layer_01", "eval_isoscore_star/layer_02"}
    assert set(ours) - added == set(plain)
    assert ours["eval_loss"] == plain["eval_loss"]
    assert ours["eval_ones"] == plain["eval_ones"]
    assert isinstance(seen[-1].predictions, np.ndarray)
    assert np.array_equal(our_predictions.predictions, plain_predictions.predictions)
    model.eval()
    with torch.no_grad():
        _, points = points_of(model, stacked(rows))
    assert ours["eval_isoscore_star"] == pytest.approx(float(algorithm_1(points)), abs=1e-12)
    half = points[len(points) // 2 :]
    assert ours["eval_isoscore_star/layer_02"] == pytest.approx(float(algorithm_1(half)), abs=1e-12)
    assert our_predictions.metrics["test_isoscore_star"] == ours["eval_isoscore_star"]


def test_generation_is_not_measured(tmp_path: Path) -> None:
    class Seq2SeqIStarTrainer(IStarMixin, Seq2SeqTrainer):
        pass

    model = made(t5)
    rows = data(model, 6)
    predictions = []
    for kind, more in ((Seq2SeqTrainer, {}), (Seq2SeqIStarTrainer, {"istar": {}})):
        args = arguments(tmp_path, Seq2SeqTrainingArguments, predict_with_generate=True, generation_max_length=6)
        trainer = kind(model=model, args=args, eval_dataset=rows, **more)
        predictions.append(trainer.predict(rows))
    assert np.array_equal(predictions[0].predictions, predictions[1].predictions)
    assert predictions[0].metrics["test_loss"] == predictions[1].metrics["test_loss"]
    model.eval()
    with torch.no_grad():
        _, points = points_of(model, stacked(rows))
    assert predictions[1].metrics["test_isoscore_star"] == pytest.approx(float(algorithm_1(points)), abs=1e-12)
    unlabelled = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
    assert "test_isoscore_star" not in trainer.predict(unlabelled).metrics


def test_best_model_by_score(tmp_path: Path) -> None:
    model = made(bert)
    args = arguments(
        tmp_path, num_train_epochs=3, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="isoscore_star",
    )  # fmt: skip
    rows = data(model)
    trainer = IStarTrainer(model=model, args=args, train_dataset=rows, eval_dataset=rows, istar={"lam": -1.0})
    trainer.train()
    scores = [line["eval_isoscore_star"] for line in trainer.state.log_history if "eval_isoscore_star" in line]
    assert scores[0] > scores[-1]  # λ < 0
    assert trainer.state.best_metric == max(scores)
    assert trainer.evaluate()["eval_isoscore_star"] == scores[0]


@pytest.mark.parametrize("asked", [False, True])
def test_outputs_are_those_the_configuration_asks_for(asked: bool, tmp_path: Path) -> None:
    model = made(bert)
    rows = data(model)
    for settings in ({"return_dict": False}, {"output_hidden_states": True}):
        for name, value in settings.items():
            setattr(model.config, name, value if asked else not value)
        batch = stacked(rows)
        trainer = IStarTrainer(model=model, args=arguments(tmp_path), istar={"zeta": 0.0})
        model.train()
        loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
        plain_loss, plain = Trainer(model=model, args=arguments(tmp_path)).compute_loss(model, batch, True)
        assert type(outputs) is type(plain)
        assert len(outputs) == len(plain)
        assert loss.item() == pytest.approx(plain_loss.item() + losses_of(trainer), abs=1e-12)


def losses_of(trainer: Any) -> float:
    return trainer.istar.collect()["istar_penalty"]
