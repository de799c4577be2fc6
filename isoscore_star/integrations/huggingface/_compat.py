"""What differs between versions of transformers and accelerate, and what they keep private."""

from __future__ import annotations

from typing import Any


def loss_is_scaled(trainer: Any, num_items_in_batch: Any) -> tuple[bool, bool]:
    """Return whether `training_step` takes a loss as divided by the accumulation steps, and whether a model says so.

    `training_step` has no name for its rule, which stands here once more. A Trainer can overrule it by
    ``loss_is_scaled_for_ga`` since transformers 5.20 (huggingface/transformers#43595); older ones have no such
    attribute, so that `getattr` can go with them.
    """
    stated = getattr(trainer, "loss_is_scaled_for_ga", None)
    if stated is not None:
        return bool(stated), False
    by_model = trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
    return bool(by_model or trainer.compute_loss_func is not None), num_items_in_batch is not None


def prepared(trainer: Any, batch: Any) -> Any:
    """Return a batch as a Trainer hands it to the model: on its device. The method is private in transformers 5.24."""
    return trainer._prepare_inputs(batch)


def leave(batches: Any) -> None:
    """Let accelerate know that a loader is left early; it would take it for the current one.

    That ended the gradient accumulation of the training around it (huggingface/accelerate#4248, open as of 1.15). This
    can go where a loader does so by itself.
    """
    if hasattr(batches, "end"):
        batches.end()
