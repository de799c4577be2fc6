"""What transformers does not hand to a callback, and where wrappers keep their model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer

ASKED = "output_hidden_states"
"""Key of a batch by which its transformer is asked for states. The configuration is not enough: PEFT's models (0.7.1
and 0.18, at least) hand on None where they are asked for nothing, which outweighs it."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel and torch.compile's wrappers, by the names that these give it.

    ``_orig_mod`` is private in torch 2.13; accelerate, which reads it, too, need not be installed to use a loss.
    """
    while isinstance(inside := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inside
    return model


def training_of(kind: type) -> tuple[Path | None, Any, list[Any]]:
    """Return the checkpoint that the present training goes on from, its trainer, and its callbacks of a kind.

    Callbacks get neither the path nor the trainer (transformers 5.0 to 5.24), so they are read off the call of the
    trainer that is going on. That can go where `on_train_begin` is given them.
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
