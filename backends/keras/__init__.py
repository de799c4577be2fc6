"""Keras 3: the backend, and what people add to a model.

`backend` and `recorded` serve the public functions, `modules` has layers, regularizers and the metric, `training` the
callback. Names below are loaded on first access.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoscore_star.backends.keras.backend import BACKEND, KerasBackend

if TYPE_CHECKING:
    from isoscore_star.backends.keras.modules.activity_regularizer import IStarActivityRegularizer
    from isoscore_star.backends.keras.modules.metric import IsoScoreStar
    from isoscore_star.backends.keras.modules.regularizer import IStarRegularizer
    from isoscore_star.backends.keras.training.callback import IStarCallback

_PLACES = {
    "IStarActivityRegularizer": "modules.activity_regularizer",
    "IStarCallback": "training.callback",
    "IStarRegularizer": "modules.regularizer",
    "IsoScoreStar": "modules.metric",
}

__all__ = [
    "BACKEND",
    "IStarActivityRegularizer",
    "IStarCallback",
    "IStarRegularizer",
    "IsoScoreStar",
    "KerasBackend",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
