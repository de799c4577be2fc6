"""By what the penalty of one micro-batch has to be multiplied, so that λ weighs the same under any accumulation.

A Trainer sums the gradients of k micro-batches. Either it divides each loss by k, and the penalty is divided with it;
or the loss was normalized by the items of all k batches (`num_items_in_batch`), and the penalty has to be divided here.
Some heads (sequence classification, in transformers 5) take that number and ignore it, and their loss comes out k
times (and in a distributed run once more by the number of processes) too large; the penalty then has to be, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from isoscore_star.integrations.huggingface._randomness import undisturbed_generators

LOGGER = logging.getLogger("isoscore_star")


def loss_is_scaled(trainer: Any, num_items_in_batch: Any) -> bool:
    """Return whether `training_step` takes a loss as already divided; its own rule."""
    stated = getattr(trainer, "loss_is_scaled_for_ga", None)
    if stated is not None:
        return bool(stated)
    by_model = trainer.model_accepts_loss_kwargs and num_items_in_batch is not None
    return bool(by_model or trainer.compute_loss_func is not None)


class Inflation:
    """How many times too large a task loss is that ignores `num_items_in_batch`; found out once, by computing it.

    Attributes
    ----------
    factor : float or None
        None for a loss that is normalized, or as long as it is not known.
    """

    def __init__(self) -> None:
        self.factor: float | None = None
        self._known = False

    @torch.no_grad()
    def find(self, model: nn.Module, loss_for: Callable[[Any], Any], num_items: Any, steps: int) -> float | None:
        """Compare the loss for the given number of items, twice as many, and none.

        The model is in evaluation mode meanwhile, and the random generators are left as they were.
        """
        if self._known:
            return self.factor
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            with undisturbed_generators(next((p.device for p in model.parameters()), None)):
                given, double, plain = (float(loss_for(n).mean()) for n in (num_items, 2 * num_items, None))
        finally:
            for module, mode in modes:
                module.training = mode
        if given == 0 or plain == 0:
            return None  # a batch without labels tells nothing
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
