"""Keras 3: the backend, and by name what people add to a model.

`backend` and `recorded` take the public functions' calls, `modules` holds layers, regularizers and the metric,
`training` the callback. All are imported at once: Keras finds the classes of a saved model only if they are.
"""

from isoscore_star.backends.keras.backend import BACKEND, KerasBackend
from isoscore_star.backends.keras.modules.activity_regularizer import IStarActivityRegularizer
from isoscore_star.backends.keras.modules.metric import IsoScoreStar
from isoscore_star.backends.keras.modules.regularizer import IStarRegularizer
from isoscore_star.backends.keras.recorded import RecordedCall as _RecordedCall  # noqa: F401 - for saved models
from isoscore_star.backends.keras.training.callback import IStarCallback

__all__ = [
    "BACKEND",
    "IStarActivityRegularizer",
    "IStarCallback",
    "IStarRegularizer",
    "IsoScoreStar",
    "KerasBackend",
]
