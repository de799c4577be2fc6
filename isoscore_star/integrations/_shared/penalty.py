"""The penalty of an integration, from a user's argument: one rule for all integrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance


def make_penalty(given: Any, option: str, config: Any = None, *, hooked: bool = False, has_data: bool = False) -> Any:
    """Return the penalty, with a `ShrinkageCovariance` where it needs a Σ_S and has none.

    Parameters
    ----------
    given : dict, IStarLoss, CosineRegularizer or None
        A dict holds arguments of `IStarLoss`; None stands for an empty one. Its estimator is the anchored one, unless
        it has another, or the ζ or Σ_S of the paper's.
    option : str
        Name of the user's argument, for messages.
    config : object, optional
        The model's configuration, whose ``hidden_size`` is `dim` where a dict has none.
    hooked : bool, default False
        Whether the states come from hooks on layers, without the embedding layer. Without hooks, `skip_embeddings`
        is True unless a dict has another value.
    has_data : bool, default False
        Whether data for a Σ_S came with it, which is the paper's.
    """
    if given is None or isinstance(given, Mapping):
        arguments = {**_usual(given or {}, has_data), "skip_embeddings": not hooked, **(given or {})}
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


def _usual(given: Mapping[str, Any], has_data: bool) -> dict[str, Any]:
    """Return the estimator that does the same at every batch size, where nothing says otherwise."""
    says = has_data or {"estimator", "zeta", "shrinkage_cov"} & given.keys()
    return {} if says else {"estimator": "anchored"}


def penalty_of(penalty: Any, states: Any, masks: Any, groups: Any) -> Any:
    """Compute a penalty of states, with their groups if it takes them."""
    return penalty(states, masks, groups) if isinstance(penalty, IStarLoss) else penalty(states, masks)


def needs_covariance(penalty: Any) -> bool:
    """Return whether a penalty mixes in a Σ_S."""
    return isinstance(penalty, IStarLoss) and penalty.estimator == "shrinkage" and penalty.zeta > 0


def covariance_of_epoch(penalty: Any) -> ShrinkageCovariance | None:
    """Return the penalty's Σ_S if it is estimated from data at the start of every epoch, otherwise None."""
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
