"""Make one run: fine-tune by the recipe with the Hugging Face integration, then measure."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance
from isoscore_star.finetuning import encode
from isoscore_star.integrations.huggingface import IStarTrainer
from paper_checks.training._held_out import held_out
from paper_checks.training._measured import measured
from paper_checks.training._models import learning_rate, make_model
from paper_checks.training._recipe import Method, Recipe
from paper_checks.training._tasks import load_splits


def make_record(recipe: Recipe) -> dict[str, Any]:
    """Train and measure.

    Returns
    -------
    dict
        ``source``, ``steps``, ``seconds`` (of training, with the passes for Σ_S), ``seconds_per_step`` (median,
        without them), ``batch_scores`` (the penalty's own score at each step), and what `measured` gives.

    Raises
    ------
    NoDataError
        If texts or model are not here.
    """
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    splits, size = load_splits(recipe.task), recipe.size
    set_seed(recipe.seed)
    model, tokenizer = make_model(recipe.model, splits)
    collate = DataCollatorWithPadding(tokenizer)
    record: dict[str, Any] = {"source": splits.source, "metric": splits.metric, "steps": 0}
    if recipe.method is not Method.untrained:
        rows = encode(splits.train.at_most(size.train), tokenizer, size.length)
        record |= _train(recipe, model, rows, collate)
    measure = held_out if recipe.brief else measured
    return record | measure(model, tokenizer, collate, splits, size)


def _train(recipe: Recipe, model: Any, rows: list[dict[str, Any]], collate: Any) -> dict[str, Any]:
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch:
        common: dict[str, Any] = {
            "model": model,
            "args": _arguments(recipe, scratch),
            "train_dataset": rows,
            "data_collator": collate,
            "callbacks": [clock],
        }
        penalty = _penalty(recipe, model, lambda: DataLoader(rows, recipe.examples, collate_fn=collate))  # type: ignore[arg-type]
        trainer: Any = Trainer(**common) if penalty is None else IStarTrainer(**common, istar=penalty)
        trainer.remove_callback(PrinterCallback)
        started = _now()
        result = trainer.train()
    return {
        "steps": result.global_step,
        "batch_scores": [line["isoscore_star"] for line in trainer.state.log_history if "isoscore_star" in line],
        "seconds": _now() - started,
        "seconds_per_step": median(clock.seconds),
    }


def _penalty(recipe: Recipe, model: Any, batches: Callable[[], Iterable[Any]]) -> Any:
    if recipe.method is Method.none:
        return None
    if recipe.method is Method.cosreg:
        return CosineRegularizer(recipe.lam, layers=recipe.layers or [-1])
    dim = model.config.hidden_size
    taken: dict[str, Any] = {"layers": recipe.layers, "skip_embeddings": recipe.layers is None}
    shrinkage = None
    if recipe.estimator == "anchored" or (recipe.estimator == "shrinkage" and recipe.zeta > 0):
        shrinkage = ShrinkageCovariance(
            dim,
            "running" if recipe.shrinkage == "running" else "epoch",
            decay=recipe.decay,
            max_points=recipe.size.shrinkage_states,
            batch_points=recipe.batch_states,
            **taken,
        )
    if shrinkage is not None and recipe.shrinkage == "frozen":
        shrinkage.fit(model, batches(), forward=_forward)
        shrinkage = ShrinkageCovariance(dim, "fixed", shrinkage_cov=shrinkage.cov, **taken)
    loss = _IndependentPoints if recipe.independent else IStarLoss
    own: dict[str, Any] = {"target": recipe.target, "rank": recipe.rank}
    return loss(dim, recipe.lam, recipe.zeta, shrinkage, recipe.estimator, recipe.reduction, **own, **taken)


class _IndependentPoints(IStarLoss):
    """The penalty that takes token states for independent points, which they are not."""

    def forward(self, hidden_states: Any, attention_mask: Any = None, groups: Any = None) -> torch.Tensor:
        return super().forward(hidden_states, attention_mask, None)


def _forward(model: Any, batch: Any) -> tuple[Any, Any]:
    inputs = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
    return model(**inputs, output_hidden_states=True).hidden_states, inputs["attention_mask"]


def _arguments(recipe: Recipe, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
        seed=recipe.seed,
        num_train_epochs=recipe.size.epochs,
        max_steps=recipe.steps or -1,
        learning_rate=recipe.lr or learning_rate(recipe.model),
        per_device_train_batch_size=recipe.examples,
        train_sampling_strategy="group_by_length",
        eval_strategy="no",
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _now() -> float:
    """Give the time on the device, or of this process's processor: other runs on the same machine do not count."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class _Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Time each step, from the batch at hand to the update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = _now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(_now() - self._began)
