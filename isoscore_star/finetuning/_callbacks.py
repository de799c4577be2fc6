"""Callbacks of one run: λ's schedule, a record of each step, the best state, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from transformers import TrainerCallback

from isoscore_star import LambdaSchedule
from isoscore_star.atomic_files import writing_to
from isoscore_star.finetuning._settings import Cell


class StepWatch(TrainerCallback):
    """Sets λ before each step, and records each step after it."""

    def __init__(self, cell: Cell, record: Callable[[dict[str, Any]], None]) -> None:
        self.cell, self.record = cell, record
        self.penalty: Any = None  # an IStarLoss, once assigned, whose λ follows the schedule
        self._schedule: LambdaSchedule | None = None
        self._seconds: list[float] = []
        self._started = 0.0
        self._lam = self._lr = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the schedule."""
        self._schedule = LambdaSchedule(
            self.cell.lam, state.max_steps, warmup_steps=self.cell.warmup_steps, shape=self.cell.lam_schedule
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Set λ, and keep the learning rate of this step."""
        assert self._schedule is not None
        self._lam = self._schedule(state.global_step)
        if self.penalty is not None:
            self.penalty.lam = self._lam
        self._lr = optimizer.param_groups[0]["lr"]
        self._started = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Record the step."""
        if "loss" not in logs:
            return
        self._seconds.append(time.perf_counter() - self._started)
        values = {name: logs.get(name) for name in ("loss", "istar_penalty", "isoscore_star")}
        self.record({"step": state.global_step, **values, "lam": self._lam, "lr": self._lr})

    @property
    def seconds_per_step(self) -> float | None:
        """Median time from the loaded batch to the logged loss."""
        return median(self._seconds) if self._seconds else None


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
