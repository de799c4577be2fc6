"""PyTorch: the backend, and by name what people train with.

`backend` computes (`points`, `blocks`, `frame`, `target` and `distributed` are its parts), `moments` streams,
`modules` holds the losses and Σ_S, `training` what these need around them. The names below are loaded when they are
first asked for, so that a score of a tensor loads the backend alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoscore_star.backends.torch.backend import BACKEND, TorchBackend

if TYPE_CHECKING:
    from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer
    from isoscore_star.backends.torch.modules.istar_loss import IStarLoss
    from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance
    from isoscore_star.backends.torch.moments import StreamingMoments
    from isoscore_star.backends.torch.training.hidden_states import HiddenStates
    from isoscore_star.backends.torch.training.state_masks import StateMasks

_PLACES = {
    "CosineRegularizer": "modules.cosine_regularizer",
    "HiddenStates": "training.hidden_states",
    "IStarLoss": "modules.istar_loss",
    "ShrinkageCovariance": "modules.shrinkage_covariance",
    "StateMasks": "training.state_masks",
    "StreamingMoments": "moments",
}

__all__ = [
    "BACKEND",
    "CosineRegularizer",
    "HiddenStates",
    "IStarLoss",
    "ShrinkageCovariance",
    "StateMasks",
    "StreamingMoments",
    "TorchBackend",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
