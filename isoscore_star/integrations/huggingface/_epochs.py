"""Σ_S at the start of every epoch, where a Trainer calls only its callbacks."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from transformers import TrainerCallback

from isoscore_star.backends.torch import preserve_rng_state
from isoscore_star.integrations._shared.penalty import covariance_of_epoch
from isoscore_star.integrations.huggingface._compat import leave


class CovarianceOfEpochs(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Estimates a penalty's Σ_S by methods of a Trainer.

    `batches` returns the data, `forward` the hidden states and masks of ``(model, batch)``, and `guard` a context
    manager in which errors may be logged instead of raised.
    """

    def __init__(
        self,
        penalty: Any,
        batches: Callable[[], Any],
        forward: Callable[[Any, Any], Any],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.penalty = penalty
        # Weak references, since the trainer refers to this callback: a cycle would keep its DDP model, and so the
        # threads of the process group, until the interpreter exits, where gloo's may abort it
        # (pytorch/pytorch#179291).
        self._batches, self._forward, self._guard = _weak(batches), _weak(forward), _weak(guard)

    def __reduce__(self) -> Any:
        return type(self), (self.penalty, self._batches(), self._forward(), self._guard())

    def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Estimate Σ_S, if its policy is to do so at every epoch."""
        shrinkage = covariance_of_epoch(self.penalty)
        inside_an_epoch = not float(state.epoch or 0.0).is_integer()  # of a resumed run
        if shrinkage is None or (inside_an_epoch and shrinkage.cov is not None):
            return
        with self._guard()(), preserve_rng_state():  # making the batches may draw random numbers
            batches = self._batches()()
            try:
                shrinkage.fit(model, batches, forward=self._forward())
            finally:
                leave(batches)
        self.penalty.to(args.device)


def _weak(method: Callable[..., Any]) -> Callable[[], Any]:
    return weakref.WeakMethod(method)
