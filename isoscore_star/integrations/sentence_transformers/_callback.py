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
    """Estimates Σ_S at every epoch, logs the score, and saves both in checkpoints.

    Parameters
    ----------
    loss : IStarLoss
        The trainer's loss; for several datasets with a loss each, one callback each.
    texts : sequence of str, optional
        Texts from which Σ_S is estimated. By default the text columns of the training data, its rows in a fixed random
        order (without prompts, if the trainer adds any).
    batch_size : int, default 32
        Texts that are embedded at a time.

    Notes
    -----
    The log (and ``state.log_history``) gets ``"isoscore_star"``, the mean since the last entry, and with
    ``log_layers=True`` one for each layer; callbacks before this one, such as the trainer's reporters, get the
    components of the loss only. Checkpoints get a file ``isoscore_star.safetensors``, with which a run resumed by
    ``trainer.train(resume_from_checkpoint=...)`` equals one that never stopped.

    Each of several callbacks in a trainer has a name, the dataset of its loss or otherwise its position, which is part
    of its values in the log (``"nli_isoscore_star"``) and of its file (``isoscore_star-nli.safetensors``).

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
        """Restore Σ_S and the score at the start from a checkpoint, if the run is resumed from one."""
        self._goes_on = False
        folder, trainer, callbacks = training_of(IStarCallback)
        self._name = _name_of(self, callbacks, trainer)
        if folder is None:
            return
        device = next(self.loss.parameters()).device
        # Old checkpoints have one file without a name, written by the last callback.
        checkpoint.load(self.loss.penalty, folder, device, self._name, or_unnamed=self is callbacks[-1])
        # Within an epoch, a run that never stopped would have the covariance of its start.
        shrinkage = covariance_of_epoch(self.loss.penalty)
        known = shrinkage is not None and shrinkage.cov is not None
        self._goes_on = known and not float(state.epoch or 0.0).is_integer()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Estimate Σ_S with the current model."""
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
            if self._name or name != "istar_penalty"  # which the trainer logs among the components of a single loss
        }
        logs.update(values)
        if state.log_history:
            state.log_history[-1].update(values)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save Σ_S and the score at the start next to the model."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            checkpoint.save(self.loss.penalty, folder, self._name)


def _name_of(callback: IStarCallback, callbacks: list[Any], trainer: Any) -> str:
    """Return the name of one of several callbacks, its loss's dataset or its position; a single one has no name."""
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
    # A separate generator leaves the order of training unchanged.
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    for place in order.tolist():
        for column, value in dataset[place].items():
            if isinstance(value, str) and column != "dataset_name":
                yield value
