"""Callbacks of one run: λ's schedule, a record of each step, the best state, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

from transformers import TrainerCallback

from isoscore_star import IsoScoreError, LambdaSchedule
from isoscore_star.atomic_files import writing_to
from isoscore_star.backends.torch import IsotropyMonitor
from isoscore_star.finetuning._settings import Cell
from isoscore_star.integrations.huggingface import IsotropyMonitorCallback


class StepWatch(TrainerCallback):
    """Sets λ before each step, and records each step after it."""

    def __init__(self, cell: Cell, record: Callable[[dict[str, Any]], None]) -> None:
        self.cell, self.record = cell, record
        self.penalty: Any = None  # an IStarLoss, once assigned, whose λ follows the schedule
        self._schedule: LambdaSchedule | None = None
        self._seconds: list[float] = []
        self._started = 0.0
        self.lam = self.lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the schedule."""
        self._schedule = LambdaSchedule(
            self.cell.lam, state.max_steps, warmup_steps=self.cell.warmup_steps, shape=self.cell.lam_schedule
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Set λ, and keep the learning rate of this step."""
        assert self._schedule is not None
        self.lam = self._schedule(state.global_step)
        if self.penalty is not None:
            self.penalty.lam = self.lam
        self.lr = optimizer.param_groups[0]["lr"]
        self._started = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Record the step."""
        if "loss" not in logs:
            return
        self._seconds.append(time.perf_counter() - self._started)
        values = {name: logs.get(name) for name in ("loss", "istar_penalty", "isoscore_star")}
        self.record({"step": state.global_step, **values, "lam": self.lam, "lr": self.lr})

    @property
    def seconds_per_step(self) -> float | None:
        """Median time from the loaded batch to the logged loss."""
        return median(self._seconds) if self._seconds else None


class WriteLog(TrainerCallback):
    """Writes every line of the log for `isoscore-star watch`."""

    def __init__(self, watch: StepWatch, write: Callable[..., None]) -> None:
        self.watch, self.write = watch, write

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write how many steps there will be."""
        self.write("begin", steps=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write the line."""
        if "train_runtime" in logs:  # means of all steps
            return
        own = {"lam": self.watch.lam, "lr": self.watch.lr} if "loss" in logs else {}
        self.write("log", step=state.global_step, **{**logs, **own})


class Monitor(IsotropyMonitorCallback):
    """Measures the layers some fifty times a run, where that costs little."""

    LOOKS, SEQUENCES, WIDEST = 50, 16, 1024

    @classmethod
    @contextmanager
    def added_to(cls, trainer: Any, steps: int, batch_size: int) -> Iterator[None]:
        """Add it to a Trainer while it trains, if its model has one list of layers, which are not too wide."""
        width, callback = getattr(trainer.model.config, "hidden_size", None), None
        every = max(1, steps // cls.LOOKS)
        if isinstance(width, int) and width <= cls.WIDEST:
            with suppress(IsoScoreError):
                IsotropyMonitor(trainer.model).close()
                callback = cls(trainer, every=every, window=min(every, max(1, cls.SEQUENCES // batch_size)))
                trainer.add_callback(callback)
        try:
            yield
        finally:
            if callback is not None:
                callback.close()


class KeepBest(TrainerCallback):
    """Saves the model whenever its metric on the evaluation data improves."""

    def __init__(self, metric: str, folder: Path, tokenizer: Any) -> None:
        self.metric, self.folder, self.tokenizer = metric, folder, tokenizer
        self.scores: dict[str, float] = {}  # all metrics of the best state
        self.step = 0
        self.is_last = False  # whether the last evaluated state is the best one

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, model: Any = None, **kwargs: Any
    ) -> None:
        """Compare, and save if better."""
        scores = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        self.is_last = not self.scores or scores[self.metric] > self.scores[self.metric]
        if self.is_last:
            self.scores, self.step = scores, state.global_step
            # safetensors and tokenizers raise other exceptions than OSError on a full disk.
            with writing_to(self.folder, Exception):
                model.save_pretrained(self.folder)
                self.tokenizer.save_pretrained(self.folder)


class ReportProgress(TrainerCallback):
    """Reports the fraction of a run that is done, after each step."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report it."""
        self.progress(state.global_step / state.max_steps)
