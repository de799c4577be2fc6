"""One run: a model fine-tuned with one λ and one seed, evaluated and measured."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from isoscore_star.finetuning._callbacks import KeepBest, Monitor, ReportProgress, StepWatch, WriteLog
from isoscore_star.finetuning._encoding import Encoded
from isoscore_star.finetuning._examples import TaskData
from isoscore_star.finetuning._held_out import measure_held_out, require_states
from isoscore_star.finetuning._metrics import ALONGSIDE, scores
from isoscore_star.finetuning._model import load_model
from isoscore_star.finetuning._settings import PENALTY, Cell, Settings
from isoscore_star.integrations.huggingface import IStarTrainer

_EVALUATION_BATCH = 32  # at least, since nothing is kept for a backward pass


class Prepared(NamedTuple):
    """Settings, data and tokenizer of all runs, loaded once."""

    settings: Settings
    data: TaskData
    tokenizer: Any
    train: Encoded
    evaluation: Encoded


def run(
    prepared: Prepared,
    cell: Cell,
    seed: int,
    folder: Path,
    record: Callable[[dict[str, Any]], None],
    log: Callable[..., None],
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Fine-tune, keep the best state, and measure it."""
    started = time.perf_counter()
    settings, data, tokenizer = prepared.settings, prepared.data, prepared.tokenizer
    set_seed(seed)
    model = load_model(settings.model, tokenizer, data, settings.dropout)
    watch = StepWatch(cell, record)
    best = KeepBest(data.metric, folder / "model", tokenizer)
    collate = DataCollatorWithPadding(tokenizer)
    require_states(model, [*prepared.train, *prepared.evaluation], collate)
    with tempfile.TemporaryDirectory() as scratch:
        common = {
            "model": model,
            "args": _arguments(prepared, cell, seed, scratch),
            "train_dataset": prepared.train,
            "eval_dataset": prepared.evaluation,
            "data_collator": collate,
            "compute_metrics": lambda result: scores(data.metric, _logits(result), result.label_ids),
            "callbacks": [watch, WriteLog(watch, log), best, ReportProgress(progress)],
        }
        if cell.lam == 0:
            trainer = Trainer(**common)
        else:
            penalty = {name: getattr(cell, name) for name in PENALTY} | {"layers": settings.layers}
            # Only the best state is measured, at the end.
            trainer = IStarTrainer(**common, istar=penalty, eval_isoscore_star=False)
            watch.penalty = trainer.istar
        trainer.remove_callback(PrinterCallback)
        # Heads for classification ignore num_items_in_batch, so the loss would grow with the accumulated batches.
        trainer.model_accepts_loss_kwargs = False
        with Monitor.added_to(trainer, settings.steps(cell, len(prepared.train)), cell.batch_size):
            trainer.train()
        if not best.scores:
            trainer.evaluate()
    if not best.is_last:
        model = load_model(str(best.folder), tokenizer, data).to(model.device)
    held_out = measure_held_out(model, prepared.evaluation, collate, max(cell.batch_size, _EVALUATION_BATCH))
    return {
        "metric": {"name": data.metric, "value": best.scores[data.metric]},
        "metrics": {name: best.scores[name] for name in ALONGSIDE[data.metric]},
        **vars(held_out),
        "steps": trainer.state.global_step,
        "best_step": best.step,
        "seconds_per_step": watch.seconds_per_step,
        "seconds": time.perf_counter() - started,
    }


def _arguments(prepared: Prepared, cell: Cell, seed: int, scratch: str) -> TrainingArguments:
    settings = prepared.settings
    size = min(cell.batch_size, max(len(prepared.train), len(prepared.evaluation)))  # memory is reserved for all of it
    arguments = TrainingArguments(
        output_dir=scratch,
        seed=seed,
        num_train_epochs=cell.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=cell.lr,
        per_device_train_batch_size=size,
        per_device_eval_batch_size=max(size, _EVALUATION_BATCH),
        gradient_accumulation_steps=settings.gradient_accumulation,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=settings.device == "cpu",
        dataloader_pin_memory=settings.device != "cpu" and torch.cuda.is_available(),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several would score parts of the batch
    return arguments


def _logits(result: Any) -> Any:
    return result.predictions[0] if isinstance(result.predictions, tuple) else result.predictions
