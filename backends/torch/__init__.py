"""PyTorch: the backend, and what people train with.

`backend` is made of `points`, `blocks`, `frame`, `target`, `score` and `distributed`; `moments` streams; `modules` has
the losses and Σ_S, `training` their utilities. Names below are loaded on first access, so that a score loads the
backend alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoscore_star.backends.torch.backend import BACKEND, TorchBackend

if TYPE_CHECKING:
    from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer
    from isoscore_star.backends.torch.modules.istar_loss import IStarLoss
    from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance
    from isoscore_star.backends.torch.moments import StreamingMoments
    from isoscore_star.backends.torch.training.data_pass import LABELS
    from isoscore_star.backends.torch.training.hidden_states import HiddenStates
    from isoscore_star.backends.torch.training.isotropy_monitor import IsotropyMonitor
    from isoscore_star.backends.torch.training.layers import select_layers
    from isoscore_star.backends.torch.training.preserve import evaluation_mode, preserve_rng_state
    from isoscore_star.backends.torch.training.state_masks import StateMasks
    from isoscore_star.backends.torch.training.sync import RankPart, is_distributed

_PLACES = {
    "CosineRegularizer": "modules.cosine_regularizer",
    "HiddenStates": "training.hidden_states",
    "IStarLoss": "modules.istar_loss",
    "IsotropyMonitor": "training.isotropy_monitor",
    "LABELS": "training.data_pass",
    "RankPart": "training.sync",
    "ShrinkageCovariance": "modules.shrinkage_covariance",
    "StateMasks": "training.state_masks",
    "StreamingMoments": "moments",
    "evaluation_mode": "training.preserve",
    "is_distributed": "training.sync",
    "preserve_rng_state": "training.preserve",
    "select_layers": "training.layers",
}

__all__ = [
    "BACKEND",
    "LABELS",
    "CosineRegularizer",
    "HiddenStates",
    "IStarLoss",
    "IsotropyMonitor",
    "RankPart",
    "ShrinkageCovariance",
    "StateMasks",
    "StreamingMoments",
    "TorchBackend",
    "evaluation_mode",
    "is_distributed",
    "preserve_rng_state",
    "select_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
