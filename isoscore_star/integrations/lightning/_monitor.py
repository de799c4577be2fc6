"""`IsotropyMonitorCallback`: the score of each layer in the log of any module, without a penalty."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from isoscore_star.backends.torch import IsotropyMonitor


class IsotropyMonitorCallback(pl.Callback):
    """Measures the layers of a module every n steps of a fit, and logs the scores.

    Parameters
    ----------
    layers : str, nn.Module, or sequence of them, optional
        Layers as `isoscore_star.backends.torch.HiddenStates` takes them: ``"model.encoder.layer.*"``. By default the
        module's list of layers, if it has exactly one.
    every, window, mask, groups, union, sync, first_number, uncompiled
        As in `isoscore_star.backends.torch.IsotropyMonitor`; steps are optimizer steps.
    prefix : str, default "train/"
        Prefix of the logged names. Beside an `IStarCallback`, which logs ``train/isoscore_star``, take another.

    Attributes
    ----------
    monitor : IsotropyMonitor or None
        Of the running or last fit.

    Raises
    ------
    InvalidValueError
        When training begins, for layers that are not there.

    Notes
    -----
    ``train/isoscore_star`` and ``train/isoscore_star/layer_07`` go to the loggers at the steps at which they are
    measured, whatever ``log_every_n_steps`` is, and into ``trainer.callback_metrics``. A checkpoint contains the first
    scores. Manual optimization is measured likewise.

    Examples
    --------
    >>> from isoscore_star.integrations.lightning import IsotropyMonitorCallback
    >>> callback = IsotropyMonitorCallback("model.encoder.layer.*", every=500, window=4)
    >>> trainer = pl.Trainer(callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        layers: Any = None,
        *,
        every: int = 100,
        window: int = 1,
        prefix: str = "train/",
        **options: Any,
    ) -> None:
        super().__init__()
        self.monitor: IsotropyMonitor | None = None
        self.prefix = prefix
        self._options = {"layers": layers, "every": every, "window": window, **options}
        self._saved: dict[str, Any] | None = None
        self._step = 0

    @property
    def state_key(self) -> str:
        """Key of the callback in checkpoints."""
        return self._generate_state_key(prefix=self.prefix)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and the first scores."""
        return {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them, when training begins."""
        self._saved = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the monitor."""
        self.on_train_end(trainer, pl_module)
        self.monitor = IsotropyMonitor(pl_module, prefix=self.prefix, **self._options)
        if self._saved:
            self.monitor.load_state_dict(self._saved)
        self._saved, self._step = None, trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the batch's states; after a step measure, where it is due, and log."""
        monitor = self.monitor
        if monitor is None:
            return
        monitor.observe(batch, outputs)
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        scores = monitor.step()
        if not scores:
            return
        pl_module.log_dict(scores, on_step=True, on_epoch=False, logger=False, batch_size=1)
        for logger in trainer.loggers:
            logger.log_metrics(scores, step=self._step - 1)  # as Lightning counts

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the hooks."""
        if self.monitor is not None:
            self.monitor.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the hooks."""
        self.on_train_end(trainer, pl_module)
