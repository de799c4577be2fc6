"""Values that transformers does not pass to callbacks, and the models inside wrappers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer

ASKED = "output_hidden_states"
"""Key of a batch that requests states of the transformer. The configuration is not enough: PEFT's models (0.7.1 and
0.18, at least) pass on None by default, which overrides it."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers of DistributedDataParallel and torch.compile.

    ``_orig_mod`` is private in torch 2.13; accelerate reads it, too, but is not a requirement of a loss.
    """
    while isinstance(inside := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inside
    return model


def training_of(kind: type) -> tuple[Path | None, Any, list[Any]]:
    """Return the checkpoint from which the current training is resumed, its trainer, and its callbacks of a kind.

    Callbacks get neither the path nor the trainer (transformers 5.0 to 5.24), so they are read from the trainer's
    frame. That can go once `on_train_begin` gets them.
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
