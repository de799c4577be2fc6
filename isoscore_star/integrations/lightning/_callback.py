"""`IStarCallback`: the penalty in the loss of an unchanged module, in its log and its checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.backends.torch import HiddenStates, StateMasks, is_distributed
from isoscore_star.integrations._shared import checkpoint
from isoscore_star.integrations._shared.only_measured import OnlyMeasured
from isoscore_star.integrations._shared.penalty import covariance_of_epoch, make_penalty, penalty_of
from isoscore_star.integrations.lightning._covariance import batches_of, call


class IStarCallback(pl.Callback):
    """Adds the penalty to the loss that ``training_step`` returns, and logs it and the score.

    During a fit, the module's ``training_step`` is wrapped: hooks collect the hidden states, and the penalty is added
    to the loss before Lightning gets it. So gradient accumulation, precision plugins, gradient clipping and distributed
    strategies treat it as part of the loss. Validation, testing and the module's own log of its loss are unchanged.

    Parameters
    ----------
    penalty : IStarLoss, CosineRegularizer, or dict
        A dict holds `IStarLoss`'s arguments, with `dim`. A penalty that needs a Σ_S and has none gets a
        ``ShrinkageCovariance(dim)``.
    states : str, nn.Module, or sequence of them, optional
        Layers of the module, as `HiddenStates` takes them: ``"model.encoder.layer.*"``. By default the module's list
        of layers, if it has exactly one.
    mask : str, callable or False, optional
        Which states are points: the name of a mask in the batch; a function ``(inputs, outputs)`` of the batch and of
        the result of ``training_step`` (or `forward`), which returns a mask, None, or one for each layer; or False for
        all. By default ``"attention_mask"`` if the batch is a mapping (or begins with one) that has it, otherwise all.
        See `isoscore_star.backends.torch.StateMasks`, also for masks of another shape than the states.
    groups : "auto", int, array of labels, or None, default "auto"
        Which states were sampled together, for the unbiased estimator; see `isoscore_star.isoscore_unbiased`. By
        default those of one index along the first axis of states of three axes: give 1 for layers whose first axis is
        the tokens.
    data : iterable or callable, optional
        For ``policy="epoch"``: batches from which Σ_S is estimated before every epoch, in the same order on every rank
        (each takes its part), or a function of the trainer that returns them. By default the training data.
    forward : callable, optional
        ``forward(module, batch)``, which runs the layers to estimate Σ_S. By default ``module(**batch)`` for
        mappings (without labels), ``module(batch[0])`` for tuples and lists, otherwise ``module(batch)``. Required for
        a module without ``forward``.
    schedule : callable, optional
        Returns λ for the optimizer step, such as `isoscore_star.LambdaSchedule`.
    prefix : str, default "train/"
        Prefix of the logged names. Two callbacks in one trainer need different ones.

    Raises
    ------
    InvalidTypeError
        If `penalty` or `mask` has another type.
    InvalidValueError
        If the penalty returns one loss for each layer, or leaves out an embedding layer (hooks have none); when
        training begins, if there are no such layers, the module cannot be called with a batch to estimate Σ_S, or under
        manual optimization; with the first batch, if its mask does not fit the states.

    Notes
    -----
    Logged every ``trainer.log_every_n_steps`` steps, and at the end of an epoch: ``train/isoscore_star`` and
    ``train/istar_penalty``, each the mean since the last entry; layers too, if the penalty has ``log_layers=True``.

    With λ = 0 a fit equals one without the callback; an error of the score is logged once.

    A checkpoint contains Σ_S and the score at the start, so that a resumed fit equals one that never stopped.

    With a strategy that shards the module itself (FSDP), Σ_S cannot be estimated by calls of the module: take
    ``policy="running"`` or ``estimator="unbiased"``.

    Examples
    --------
    >>> from isoscore_star.backends.torch import IStarLoss
    >>> from isoscore_star.integrations.lightning import IStarCallback
    >>> callback = IStarCallback(IStarLoss(dim=384, lam=0.1, estimator="unbiased"), states="model.encoder.layer.*")
    >>> trainer = pl.Trainer(callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        penalty: Any,
        *,
        states: Any = None,
        mask: Any = None,
        groups: Any = "auto",
        data: Any = None,
        forward: Callable[[Any, Any], Any] | None = None,
        schedule: Callable[[int], float] | None = None,
        prefix: str = "train/",
    ) -> None:
        super().__init__()
        self.penalty = make_penalty(penalty, "penalty", hooked=True, has_data=data is not None)
        self.states = states
        self.mask = mask
        self.groups = groups
        self.measured = OnlyMeasured()
        self.data = data
        self.forward = call if forward is None else forward
        self.schedule = schedule
        self.prefix = prefix
        self._hooks: HiddenStates | None = None
        self._masks = StateMasks(nn.Identity(), mask)
        self._detach: Callable[[], None] | None = None
        self._logged_step = 0

    @property
    def state_key(self) -> str:
        """Key of the callback in checkpoints."""
        return self._generate_state_key(prefix=self.prefix)

    def state_dict(self) -> dict[str, Any]:
        """Return Σ_S and the score at the start."""
        return {"penalty": self.penalty.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore Σ_S and the score at the start."""
        checkpoint.restore(self.penalty, state_dict["penalty"], self.state_key)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wrap ``training_step``."""
        if not pl_module.automatic_optimization:
            raise InvalidValueError(
                "automatic_optimization",
                "under manual optimization the module calls backward itself, so no callback "
                "can add to its loss. Add penalty(states, mask) in training_step",
            )
        self.penalty.to(pl_module.device)
        self._logged_step = trainer.global_step
        self._hooks = hooks = HiddenStates(pl_module, self.states)
        self._masks = StateMasks(pl_module, self.mask)
        hooks.recording = False
        step = pl_module.training_step
        # An attribute of the instance (such as a compiled training_step) is restored afterwards.
        own = vars(pl_module).get("training_step")

        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            batch = args[0] if args else next(iter(kwargs.values()))
            hooks.clear()
            hooks.recording = True
            try:
                output = step(*args, **kwargs)
            finally:
                hooks.recording = False
            return output if output is None else self._with_penalty(trainer, output, hooks, batch)

        def detach() -> None:
            hooks.close()
            vars(pl_module).pop("training_step", None)
            if own is not None:
                vars(pl_module)["training_step"] = own

        vars(pl_module)["training_step"] = training_step
        self._detach = detach

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Estimate Σ_S, if its policy is to do so at every epoch."""
        shrinkage, hooks = covariance_of_epoch(self.penalty), self._hooks
        if shrinkage is None or hooks is None:
            return

        def forward(module: nn.Module, batch: Any) -> tuple[list[Tensor], Any]:
            hooks.clear()
            batch = trainer.strategy.batch_to_device(trainer.strategy.precision_plugin.convert_input(batch))
            with trainer.strategy.precision_plugin.forward_context():
                output = self.forward(module, batch)
            states = hooks.take()
            return states, self._masks(states, batch, output, names=hooks.taken)

        hooks.recording = True
        try:
            with self._unless_measured():
                shrinkage.fit(pl_module, batches_of(self.data, trainer), forward=forward)
        finally:
            hooks.recording = False
            hooks.clear()
        self.penalty.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Any, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at the steps at which Lightning logs."""
        step, every = trainer.global_step, trainer.log_every_n_steps
        if step != self._logged_step and every and step % every == 0:
            self._logged_step = step
            self._log(trainer, pl_module, on_step=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log values since the last entry."""
        self._log(trainer, pl_module, on_step=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the module's ``training_step``."""
        if self._detach is not None:
            self._detach()
        self._hooks = self._detach = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the module's ``training_step``."""
        self.on_train_end(trainer, pl_module)

    def _with_penalty(self, trainer: pl.Trainer, output: Any, hooks: HiddenStates, batch: Any) -> Any:
        if not isinstance(output, Tensor) and not (isinstance(output, Mapping) and "loss" in output):
            raise InvalidTypeError(
                "training_step",
                f"expected a loss, or a dict with the key 'loss', to add the penalty to; got {type(output).__name__}",
            )
        if self.schedule is not None:
            self.penalty.lam = self.schedule(trainer.global_step)
        lam, penalty = self.penalty.lam, None
        with self._unless_measured(), torch.set_grad_enabled(lam != 0 and torch.is_grad_enabled()):
            states = hooks.take()
            masks = self._masks(states, batch, output, names=hooks.taken)
            penalty = penalty_of(self.penalty, states, masks, self.groups)
        if penalty is None or lam == 0:
            return output
        return output + penalty if isinstance(output, Tensor) else {**output, "loss": output["loss"] + penalty}

    def _unless_measured(self) -> AbstractContextManager[None]:
        return self.measured.unless(self.penalty.lam, self.schedule)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, on_step: bool) -> None:
        values = {self.prefix + name: value for name, value in self.penalty.collect().items()}
        # Equal on all ranks, unless the penalty has sync=False.
        pl_module.log_dict(values, on_step=on_step, on_epoch=not on_step, sync_dist=is_distributed(), batch_size=1)
