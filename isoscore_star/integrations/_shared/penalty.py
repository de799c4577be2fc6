"""From what a user gave to the penalty that an integration adds to the loss: one rule for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance


def make_penalty(given: Any, option: str, config: Any = None, *, hooked: bool = False) -> Any:
    """Return the penalty, with a `ShrinkageCovariance` where it needs a Σ_S and has none.

    Parameters
    ----------
    given : dict, IStarLoss, CosineRegularizer or None
        A dict holds arguments of `IStarLoss`; None stands for an empty one.
    option : str
        How the user knows `given`, for messages.
    config : object, optional
        The model's configuration, whose ``hidden_size`` is `dim` where a dict has none.
    hooked : bool, default False
        Whether the states come from hooks on layers, among which there is no embedding layer. Where one is,
        `skip_embeddings` is True unless a dict says otherwise.
    """
    if given is None or isinstance(given, Mapping):
        arguments = {"skip_embeddings": not hooked, **(given or {})}
        if "dim" not in arguments:
            arguments["dim"] = _hidden_size(config, option)
        penalty: Any = IStarLoss(**arguments)
    elif isinstance(given, (IStarLoss, CosineRegularizer)):
        penalty = given
    else:
        raise InvalidTypeError(
            option,
            "expected an IStarLoss, a CosineRegularizer, or a dict of IStarLoss's arguments; got "
            f"{type(given).__name__}",
        )
    if penalty.reduction == "none":
        raise InvalidValueError(
            option, 'reduction="none" gives a loss for each layer, but a loss is one number; take "union" or "mean"'
        )
    if hooked and penalty.skip_embeddings:
        raise InvalidValueError(
            option, "hooks on layers give no embedding layer that skip_embeddings=True could leave out; take False"
        )
    if needs_covariance(penalty) and penalty.shrinkage is None and penalty.shrinkage_cov is None:
        penalty.shrinkage = ShrinkageCovariance(
            penalty.dim, layers=penalty.layers, skip_embeddings=penalty.skip_embeddings, sync=penalty.sync
        )
    return penalty


def needs_covariance(penalty: Any) -> bool:
    """Return whether a penalty mixes in a Σ_S."""
    return isinstance(penalty, IStarLoss) and penalty.estimator == "shrinkage" and penalty.zeta > 0


def covariance_of_epoch(penalty: Any) -> ShrinkageCovariance | None:
    """Return the Σ_S of a penalty that is read from data at the start of every epoch, if it has such a one."""
    shrinkage: ShrinkageCovariance | None = getattr(penalty, "shrinkage", None)
    return shrinkage if shrinkage is not None and shrinkage.policy == "epoch" else None


def _hidden_size(config: Any, option: str) -> int:
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(config, "hidden_size", None)
    if not isinstance(size, int):
        raise InvalidValueError(
            option,
            "the width of the states is not known, since the model has no config.hidden_size. Give it: "
            f'{option}={{"dim": ..., ...}}',
        )
    return size
