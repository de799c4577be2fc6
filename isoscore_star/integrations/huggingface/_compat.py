"""Differences between versions of transformers and accelerate, and private names of theirs."""

from __future__ import annotations

from typing import Any


def loss_is_scaled(trainer: Any, num_items_in_batch: Any) -> tuple[bool, bool]:
    """Return whether `training_step` does not divide a loss by the accumulation steps, and whether by the model's rule.

    The rule is a copy of the one in `training_step`. A Trainer overrules it by ``loss_is_scaled_for_ga`` since
    transformers 5.20 (huggingface/transformers#43595); `getattr` can go with older ones.
    """
    stated = getattr(trainer, "loss_is_scaled_for_ga", None)
    if stated is not None:
        return bool(stated), False
    by_model = trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
    return bool(by_model or trainer.compute_loss_func is not None), num_items_in_batch is not None


def prepared(trainer: Any, batch: Any) -> Any:
    """Return a batch on the Trainer's device. The method is private in transformers 5.24."""
    return trainer._prepare_inputs(batch)


def leave(batches: Any) -> None:
    """Notify accelerate that a loader is left early; otherwise it remains the current one.

    That ended the gradient accumulation of the training around it (huggingface/accelerate#4248, open as of 1.15; this
    can go once it is fixed).
    """
    if hasattr(batches, "end"):
        batches.end()
