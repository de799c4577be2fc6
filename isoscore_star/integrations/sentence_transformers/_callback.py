"""`IStarCallback`: Σ_S at every epoch, the score in the log, both in the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from isoscore_star._errors import InvalidTypeError, InvalidValueError
from isoscore_star.backends.torch_shrinkage import ShrinkageCovariance
from isoscore_star.integrations.sentence_transformers._loss import IStarLoss

CHECKPOINT = "isoscore_star.safetensors"


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

    Examples
    --------
    >>> trainer = SentenceTransformerTrainer(  # doctest: +SKIP
    ...     model, train_dataset=pairs, loss=loss, callbacks=[IStarCallback(loss)]
    ... )
    """

    def __init__(self, loss: IStarLoss, texts: Sequence[str] | None = None, *, batch_size: int = 32) -> None:
        if not isinstance(loss, IStarLoss):
            raise InvalidTypeError(f"loss: expected the IStarLoss of this module; got {type(loss).__name__}")
        self.loss = loss
        self.texts = texts
        self.batch_size = batch_size
        self._goes_on = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up Σ_S and the score's start where a checkpoint left them."""
        self._goes_on = False
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / CHECKPOINT
        if state.global_step and saved.exists():
            self.loss.penalty.load_state_dict(load_file(saved))
            self.loss.penalty.to(next(self.loss.parameters()).device)
            # Inside an epoch the run that never stopped would have the covariance from its beginning.
            self._goes_on = state.epoch is not None and not float(state.epoch).is_integer()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read Σ_S from the model as it is now."""
        shrinkage = self.loss.penalty.shrinkage
        goes_on, self._goes_on = self._goes_on, False
        if goes_on or not isinstance(shrinkage, ShrinkageCovariance) or shrinkage.policy != "epoch":
            return
        texts = _training_texts(kwargs["train_dataloader"].dataset) if self.texts is None else self.texts
        self.loss.refresh(texts, batch_size=self.batch_size)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the score."""
        if logs is None or "loss" not in logs:
            return
        values = {name: value for name, value in self.loss.penalty.collect().items() if name != "istar_loss"}
        logs.update(values)
        if state.log_history:
            state.log_history[-1].update(values)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save Σ_S and the score's start beside the model."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            save_file({k: v.contiguous() for k, v in self.loss.penalty.state_dict().items()}, folder / CHECKPOINT)


def _training_texts(dataset: Any) -> Iterator[str]:
    if not hasattr(dataset, "__len__"):
        raise InvalidValueError(
            "texts: the training data is a stream, which can be read only once. Give IStarCallback(loss, texts=...)"
        )
    # A generator of its own: the order of the training itself has to stay what it would be.
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    for place in order.tolist():
        for column, value in dataset[place].items():
            if isinstance(value, str) and column != "dataset_name":
                yield value
