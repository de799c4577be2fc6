"""Batches and calls of the module by which Σ_S is estimated in a Lightning fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch

from isoscore_star import InvalidValueError
from isoscore_star.backends.torch import LABELS, RankPart


def batches_of(data: Any, trainer: pl.Trainer) -> Any:
    """Return the batches: this rank's part of the data, or of a function's result; by default the training data."""
    if data is not None:
        return RankPart(data(trainer) if callable(data) else data)
    loader = trainer.train_dataloader  # already this rank's part
    if not isinstance(loader, torch.utils.data.DataLoader) or loader.persistent_workers:
        raise InvalidValueError(
            "data",
            "the training data are no single DataLoader, or one with persistent_workers, which cannot be "
            "read twice at a time. Give batches of their own from which to read the shrinkage covariance",
        )
    return loader


def call(module: Any, batch: Any) -> Any:
    """Call a module with a batch: with its entries by name, without labels, or with its first entry."""
    arguments: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        named = {str(name): value for name, value in batch.items() if name not in LABELS}
    else:
        arguments = (batch[0] if isinstance(batch, (tuple, list)) else batch,)
    has_own = type(module).forward is not pl.LightningModule.forward
    try:
        inspect.signature(module.forward).bind(*arguments, **named)
    except TypeError as error:
        reason = f"its forward does not take a batch ({error})"
    else:
        if has_own:
            return module(*arguments, **named)
        reason = "it has no forward of its own"
    raise InvalidValueError(
        "forward",
        f"the shrinkage covariance is read by calls of {type(module).__name__}, but {reason}. Give "
        "IStarCallback(..., forward=lambda module, batch: ...), which runs the layers, such as "
        "module.model(batch['input_ids']); or take a covariance that needs no calls, "
        'ShrinkageCovariance(dim, policy="running"), or none: estimator="unbiased", or zeta=0',
    )
