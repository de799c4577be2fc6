"""What a callback is not told of the training that it takes part in."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from urllib.parse import quote

from transformers import Trainer

from isoscore_star.integrations.huggingface import _checkpoint


def training_of(kind: type) -> tuple[Path | None, Any, list[Any]]:
    """Return the checkpoint that the present training goes on from, its trainer, and its callbacks of a kind.

    No callback gets the path, or the trainer, so they are read off the call of the trainer that is going on.
    """
    frame = inspect.currentframe()
    while frame is not None:
        trainer = frame.f_locals.get("self")
        if isinstance(trainer, Trainer) and "resume_from_checkpoint" in frame.f_locals:
            folder = frame.f_locals["resume_from_checkpoint"]
            callbacks = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, kind)]
            return Path(folder) if folder else None, trainer, callbacks
        frame = frame.f_back
    return None, None, []


def name_of(callback: Any, callbacks: list[Any], trainer: Any) -> str:
    """Name a callback's penalty among several: by its loss's dataset, or by its place. One alone has no name."""
    if len(callbacks) < 2:
        return ""
    losses = trainer.loss.items() if isinstance(trainer.loss, dict) else ()
    datasets = [dataset for dataset, loss in losses if loss is callback.loss]
    return str(datasets[0]) if datasets else str(callbacks.index(callback))


def file_of(name: str) -> str:
    """Name the file in a checkpoint of the penalty of this name."""
    return _checkpoint.FILE if not name else _checkpoint.FILE.replace(".", f"-{quote(name, safe='')}.")
