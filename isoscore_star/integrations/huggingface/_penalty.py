"""From what the user gave as ``istar=`` to the penalty that a Trainer adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from isoscore_star.backends.torch import IStarLoss
from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer
from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError


def make_penalty(istar: Any, model: nn.Module, *, hooked: bool) -> Any:
    """Make the penalty, with a Σ_S that is read at every epoch where it needs one and has none.

    `hooked` tells that the states come from hooks, among which there is no embedding layer.
    """
    if istar is None or isinstance(istar, Mapping):
        arguments: dict[str, Any] = {"skip_embeddings": not hooked, **(istar or {})}
        arguments.setdefault("dim", _hidden_size(model) if "dim" not in arguments else None)
        penalty: Any = IStarLoss(**arguments)
    elif isinstance(istar, (IStarLoss, CosineRegularizer)):
        penalty = istar
    else:
        raise InvalidTypeError(
            "istar",
            "expected an IStarLoss, a CosineRegularizer, or a dict of IStarLoss's arguments; got "
            f"{type(istar).__name__}",
        )
    if penalty.reduction == "none":
        raise InvalidValueError("istar", 'reduction="none" gives a loss for each layer; take "union" or "mean"')
    if hooked and penalty.skip_embeddings:
        raise InvalidValueError(
            "istar",
            "the states of this model come from hooks on its layers, among which there is no embedding layer "
            "that skip_embeddings=True could leave out; take False",
        )
    if isinstance(penalty, IStarLoss) and _lacks_covariance(penalty):
        penalty.shrinkage = ShrinkageCovariance(
            penalty.dim, layers=penalty.layers, skip_embeddings=penalty.skip_embeddings, sync=penalty.sync
        )
    return penalty


def _lacks_covariance(penalty: IStarLoss) -> bool:
    known = penalty.shrinkage is not None or penalty.shrinkage_cov is not None
    return penalty.estimator == "shrinkage" and penalty.zeta > 0 and not known


def _hidden_size(model: nn.Module) -> int:
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(config, "hidden_size", None)
    if not isinstance(size, int):
        raise InvalidValueError(
            "istar",
            f"{type(model).__name__} has no config.hidden_size that tells the width of its states. Give it: "
            'istar={"dim": ..., ...}',
        )
    return size
