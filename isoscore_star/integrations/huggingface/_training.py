"""What a Trainer does for I-STAR in a training step and at the start of an epoch."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from isoscore_star.core.errors import InvalidValueError, IsoScoreError
from isoscore_star.integrations._only_measured import OnlyMeasured
from isoscore_star.integrations.huggingface._accumulation import Inflation, loss_is_scaled
from isoscore_star.integrations.huggingface._penalty import make_penalty
from isoscore_star.integrations.huggingface._randomness import undisturbed_generators
from isoscore_star.integrations.huggingface._states import Call, ModelStates, together

if TYPE_CHECKING:
    from isoscore_star.integrations.huggingface._mixin import IStarMixin


class Training(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Hidden states, the penalty and its scale, and Σ_S, of one Trainer.

    A callback, since no method of a Trainer tells that an epoch begins.

    Parameters
    ----------
    trainer : IStarMixin
        After its own initialisation.
    istar : dict, IStarLoss or CosineRegularizer, optional
    modules : str, nn.Module, or sequence of them, optional
        As the mixin takes them.
    mask : str, callable or False, optional
        Likewise.
    """

    def __init__(self, trainer: IStarMixin, istar: Any, modules: Any, mask: Any) -> None:
        # Not held, since the trainer holds this: a cycle would keep its DDP model, and so the threads of the process
        # group, beyond `destroy_process_group` and up to the end of the interpreter, where gloo's may abort it.
        self._trainer = weakref.ref(trainer)
        self.modules = modules
        self.mask = mask
        self.inflation = Inflation()
        self.measured = OnlyMeasured()
        self._states: ModelStates | None = None
        hooked = self.states().hooks is not None
        self.penalty = make_penalty(istar, trainer.accelerator.unwrap_model(self.model), hooked=hooked)
        self.penalty.to(trainer.args.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trainer": self.trainer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _trainer=weakref.ref(state["_trainer"]))

    @property
    def trainer(self) -> IStarMixin:
        """The Trainer."""
        trainer = self._trainer()
        assert trainer is not None
        return trainer

    @property
    def model(self) -> nn.Module:
        """The model as the Trainer has it, without the wrappers for training."""
        assert isinstance(self.trainer.model, nn.Module)
        return self.trainer.model

    def states(self) -> ModelStates:
        """Return what collects the hidden states of the Trainer's present model; `model_init` makes new ones."""
        if self._states is None or self._states.trained is not self.model:
            model = self.trainer.accelerator.unwrap_model(self.model)
            self._states = ModelStates(self.model, model, self.modules, self.mask)
        return self._states

    def chosen(self, calls: list[Call | IsoScoreError], accelerator: Any = None) -> Call:
        """Join the model's calls for one batch."""
        if not calls:
            raise InvalidValueError(
                "model",
                "compute_loss did not call the model that it was given, so there are no hidden states. Call "
                "that one, not self.model",
            )
        without_embeddings = self.penalty.skip_embeddings and self.penalty.layers is None
        return together(calls, without_embeddings=without_embeddings, accelerator=accelerator)

    def unless_measured(self) -> AbstractContextManager[None]:
        """Let what is inside fail where λ is 0 and stays so."""
        return self.measured.unless(self.penalty.lam if self.trainer.lam_schedule is None else 1.0)

    def loss(self, calls: list[Call | IsoScoreError]) -> Tensor | None:
        """Compute the penalty, or None (but log the score) where λ is 0."""
        call, schedule = self.chosen(calls), self.trainer.lam_schedule
        if schedule is not None:
            self.penalty.lam = float(schedule(self.trainer.state.global_step))
        if self.penalty.lam == 0:
            with torch.no_grad():
                self.penalty(call.states, call.masks)
            return None
        if torch.is_grad_enabled() and not any(state is not None and state.requires_grad for state in call.states):
            raise InvalidValueError(
                "model",
                "its hidden states carry no gradient, so the penalty would change nothing. Are all layers "
                "frozen? Set lam=0 to log the score alone",
            )
        result: Tensor = self.penalty(call.states, call.masks)
        return result

    def factor(self, inputs: Any, num_items: Any) -> float:
        """Return by what to multiply the penalty of a micro-batch; see `_accumulation`."""
        trainer = self.trainer
        if not loss_is_scaled(trainer, num_items):
            return 1.0  # training_step divides it
        steps: int = trainer.current_gradient_accumulation_steps
        by_rule = num_items is not None and getattr(trainer, "loss_is_scaled_for_ga", None) is None
        if by_rule and steps * trainer.accelerator.num_processes > 1:

            def loss_for(number: Any) -> Any:
                return trainer._istar_task_loss(self.model, inputs, number)

            inflation = self.inflation.find(self.model, loss_for, num_items, steps)
            if inflation is not None:
                return inflation
        return 1.0 / steps

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Read Σ_S, if it is read at every epoch."""
        trainer, shrinkage = self.trainer, getattr(self.penalty, "shrinkage", None)
        if shrinkage is None or shrinkage.policy != "epoch":
            return
        inside_an_epoch = not float(trainer.state.epoch or 0.0).is_integer()  # where a resumed run may begin
        if inside_an_epoch and shrinkage.cov is not None:
            return
        with self.unless_measured(), undisturbed_generators():
            batches = trainer.get_shrinkage_dataloader()
            try:
                shrinkage.fit(self.model, batches, forward=self._forward)
            finally:
                if hasattr(batches, "end"):  # accelerate takes a loader that was left early for the current one
                    batches.end()
        self.penalty.to(trainer.args.device)

    def _forward(self, model: nn.Module, batch: Any) -> tuple[Any, Any]:
        trainer = self.trainer
        inputs = trainer._prepare_inputs(batch)
        with self.states().watching(model) as calls, trainer.compute_loss_context_manager():
            trainer._istar_task_loss(model, inputs)
        call = self.chosen(calls, trainer.accelerator)
        return call.states, call.masks
