"""`IStarCallback`: Σ_S at every epoch, the score in the log, both in the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.integrations._shared import checkpoint
from isoscore_star.integrations._shared.penalty import covariance_of_epoch
from isoscore_star.integrations.sentence_transformers._compat import training_of
from isoscore_star.integrations.sentence_transformers._loss import IStarLoss


class IStarCallback(TrainerCallback):
    """Σ_S anew at every epoch, the score in the log, and both in the checkpoints.

    Parameters
    ----------
    loss : IStarLoss
        The one that the trainer has; for several datasets with a loss each, one callback each.
    texts : sequence of str, optional
        What Σ_S is read from. By default the text columns of the training data, its rows in a fixed random order
        (without prompts, if the trainer adds any).
    batch_size : int, default 32
        Texts that are embedded at a time.

    Notes
    -----
    The log (and ``state.log_history``) gets ``"isoscore_star"``, the mean since the last entry, and with
    ``log_layers=True`` one for each layer; callbacks that stand before this one, as the trainer's own reporters do, see
    the components of the loss only. Checkpoints get a file ``isoscore_star.safetensors``, from which
    ``trainer.train(resume_from_checkpoint=...)`` goes on as if it had never stopped.

    Of several callbacks in a trainer each has its own name, the dataset of its loss or else its place among them, and
    with it its own values in the log (``"nli_isoscore_star"``) and its own file (``isoscore_star-nli.safetensors``).

    Examples
    --------
    >>> trainer = SentenceTransformerTrainer(  # doctest: +SKIP
    ...     model, train_dataset=pairs, loss=loss, callbacks=[IStarCallback(loss)]
    ... )
    """

    def __init__(self, loss: IStarLoss, texts: Sequence[str] | None = None, *, batch_size: int = 32) -> None:
        if not isinstance(loss, IStarLoss):
            raise InvalidTypeError("loss", f"expected the IStarLoss of this module; got {type(loss).__name__}")
        self.loss = loss
        self.texts = texts
        self.batch_size = batch_size
        self._name = ""
        self._goes_on = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up Σ_S and the score's start where a checkpoint left them."""
        self._goes_on = False
        folder, trainer, callbacks = training_of(IStarCallback)
        self._name = _name_of(self, callbacks, trainer)
        if folder is None:
            return
        device = next(self.loss.parameters()).device
        # All callbacks used to write to a file without a name, and the last one did last.
        checkpoint.load(self.loss.penalty, folder, device, self._name, or_unnamed=self is callbacks[-1])
        # Inside an epoch the run that never stopped would have the covariance from its beginning.
        shrinkage = covariance_of_epoch(self.loss.penalty)
        known = shrinkage is not None and shrinkage.cov is not None
        self._goes_on = known and not float(state.epoch or 0.0).is_integer()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read Σ_S from the model as it is now."""
        goes_on, self._goes_on = self._goes_on, False
        if goes_on or covariance_of_epoch(self.loss.penalty) is None:
            return
        with self.loss.measured.unless(self.loss.penalty.lam):
            texts = _training_texts(kwargs["train_dataloader"].dataset) if self.texts is None else self.texts
            self.loss.refresh(texts, batch_size=self.batch_size)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the score."""
        if logs is None or "loss" not in logs:
            return
        prefix = f"{self._name}_" if self._name else ""
        values = {
            prefix + name: value
            for name, value in self.loss.penalty.collect().items()
            if self._name or name != "istar_loss"  # one alone is among the components that the trainer logs
        }
        logs.update(values)
        if state.log_history:
            state.log_history[-1].update(values)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save Σ_S and the score's start beside the model."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            checkpoint.save(self.loss.penalty, folder, self._name)


def _name_of(callback: IStarCallback, callbacks: list[Any], trainer: Any) -> str:
    """Name a callback's penalty among several: by its loss's dataset, or by its place. One alone has no name."""
    if len(callbacks) < 2:
        return ""
    losses = trainer.loss.items() if isinstance(trainer.loss, dict) else ()
    datasets = [dataset for dataset, loss in losses if loss is callback.loss]
    return str(datasets[0]) if datasets else str(callbacks.index(callback))


def _training_texts(dataset: Any) -> Iterator[str]:
    if not hasattr(dataset, "__len__"):
        raise InvalidValueError(
            "texts", "the training data is a stream, which can be read only once. Give IStarCallback(loss, texts=...)"
        )
    # A generator of its own: the order of the training itself has to stay what it would be.
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    for place in order.tolist():
        for column, value in dataset[place].items():
            if isinstance(value, str) and column != "dataset_name":
                yield value
