"""By what the penalty of one micro-batch has to be multiplied, so that λ weighs the same under any accumulation.

A Trainer sums the gradients of k micro-batches. Either it divides each loss by k, and the penalty is divided with it;
or the loss was normalized by the items of all k batches (`num_items_in_batch`), and the penalty has to be divided here.
Some heads (sequence classification, in transformers 5) take that number and ignore it, and their loss comes out k
times (and in a distributed run once more by the number of processes) too large; the penalty then has to be, too. This
is huggingface/transformers#47688, open as of 5.24; once it is closed, `Inflation.find` can go.
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
    """How many times too large a task loss is that ignores `num_items_in_batch`; measured once, by computing it.

    Attributes
    ----------
    factor : float or None
        None for a loss that is normalized, or as long as it is not known.
    """

    def __init__(self) -> None:
        self.factor: float | None = None
        self._known = False

    def of_penalty(self, trainer: Any, loss_for: Callable[[Any], Any], num_items: Any) -> float:
        """Return by what to multiply the penalty of a micro-batch, whose task loss is a function of `num_items`."""
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
        """Compare the loss for the given number of items, twice as many, and none.

        The model is in evaluation mode meanwhile, and the random generators are left as they were.
        """
        if self._known:
            return self.factor
        with evaluation_mode(model), preserve_rng_state(next((p.device for p in model.parameters()), None)):
            given, double, plain = (float(loss_for(n).mean()) for n in (num_items, 2 * num_items, None))
        if given == 0 or plain == 0:
            return None  # a batch without labels says nothing
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
