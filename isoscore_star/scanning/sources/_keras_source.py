"""A functional Keras model whose layers are named."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.scanning._batches import Batch
from isoscore_star.scanning.sources._arrays import batch_of_arrays, required_function
from isoscore_star.scanning.sources._batch_source import BatchSource
from isoscore_star.scanning.sources._fingerprint import fingerprint_of_arrays
from isoscore_star.scanning.sources._options import Options


class KerasSource(BatchSource):
    """Runs a Keras model over batches; see `isoscore_star.scanning._batches.Source`."""

    def __init__(self, model: Any, batches: Iterable[Any], options: Options, mask: Any = None) -> None:
        import keras

        self._mask = required_function(mask)
        named = {layer.name: layer for layer in model.layers}
        wanted = [str(pattern) for pattern in options.layers or ()]
        chosen = [name for name in named if any(fnmatchcase(name, pattern) for pattern in wanted)]
        if not chosen:
            raise InvalidValueError(
                "layers",
                f"name the layers whose states are meant, or patterns of their names; the model's are "
                f"{', '.join(list(named)[:12])}{', ...' if len(named) > 12 else ''}",
            )
        try:
            outputs = [named[name].output for name in chosen]
            self._states = keras.Model(model.input, outputs)
        except (AttributeError, ValueError) as error:
            raise InvalidValueError(
                "model",
                "only of a functional or sequential Keras model the layers' states can be had; of another, feed "
                "isoscore_star.Moments with what its layers return",
            ) from error
        self._names = chosen
        weights = fingerprint_of_arrays(model.get_weights())
        super().__init__(model, model.name, weights, batches, mask)

    def _batch(self, first: int, batch: Any) -> Batch:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        found = self._states(inputs, training=False)
        arrays = found if isinstance(found, (list, tuple)) else [found]
        mask = None if self._mask is None else self._mask(batch)
        return batch_of_arrays(first, dict(zip(self._names, arrays, strict=True)), mask)
