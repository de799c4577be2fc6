"""The factor of the penalty of one micro-batch, with which λ has the same weight under any accumulation.

A Trainer sums the gradients of k micro-batches. Either it divides each loss by k, and the penalty with it; or the loss
is normalized by the items of all k batches (`num_items_in_batch`), and the penalty is divided here. Some heads
(sequence classification, in transformers 5) ignore that number, so their loss is too large by k and, in a distributed
run, by the number of processes; the penalty is multiplied likewise. This is huggingface/transformers#47688, open as of
5.24; once it is closed, `Inflation.find` can go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from isoscore_star.backends.torch import evaluation_mode, preserve_rng_state
from isoscore_star.integrations.huggingface._compat import loss_is_scaled

LOGGER = logging.getLogger("isoscore_star")


class Inflation:
    """The factor by which a task loss that ignores `num_items_in_batch` is too large, measured once."""

    def __init__(self) -> None:
        self.factor: float | None = None  # None for a normalized loss, or before it is known
        self._known = False

    def of_penalty(self, trainer: Any, loss_for: Callable[[Any], Any], num_items: Any) -> float:
        """Return the factor of a micro-batch's penalty, whose task loss is a function of `num_items`."""
        scaled, by_rule = loss_is_scaled(trainer, num_items)
        if not scaled:
            return 1.0  # training_step divides it
        steps: int = trainer.current_gradient_accumulation_steps
        inflation = None
        if by_rule and steps * trainer.accelerator.num_processes > 1:
            inflation = self.find(trainer.model, loss_for, num_items, steps)
        return 1.0 / steps if inflation is None else inflation

    @torch.no_grad()
    def find(self, model: nn.Module, loss_for: Callable[[Any], Any], num_items: Any, steps: int) -> float | None:
        """Compare the loss for the given number of items, twice that number, and None, in evaluation mode."""
        if self._known:
            return self.factor
        with evaluation_mode(model), preserve_rng_state(next((p.device for p in model.parameters()), None)):
            given, double, plain = (float(loss_for(n).mean()) for n in (num_items, 2 * num_items, None))
        if given == 0 or plain == 0:
            return None  # a batch without labels
        self._known = True
        if abs(double) > 0.75 * abs(given):  # a normalized loss is halved
            self.factor = given / plain
            LOGGER.warning(
                "The loss of %s ignores num_items_in_batch, so that transformers makes loss and gradient %g times too "
                "large. The penalty is made so, too, which keeps the weight of lam. Set "
                "trainer.model_accepts_loss_kwargs = False before training to have both right",
                type(model).__name__,
                steps * self.factor,
            )
        return self.factor
