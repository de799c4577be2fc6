"""A functional Keras model whose layers are named."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from isoscore_star import InvalidValueError
from isoscore_star.scanning._batches import Batch, Layer, Tokens
from isoscore_star.scanning.sources._batch_source import BatchSource
from isoscore_star.scanning.sources._fingerprint import fingerprint_of_arrays
from isoscore_star.scanning.sources._options import Options


class KerasSource(BatchSource):
    """Runs a Keras model over batches; see `isoscore_star.scanning._batches.Source`."""

    def __init__(self, model: Any, batches: Iterable[Any], options: Options, mask: Any = None) -> None:
        import keras

        if mask is not None and not callable(mask):
            raise InvalidValueError("mask", "of a Keras model expected a function that returns a batch's mask, or none")
        self._mask = mask
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
        arrays = [_host(array) for array in (found if isinstance(found, (list, tuple)) else [found])]
        mask = None if self._mask is None else np.asarray(self._mask(batch)) != 0
        layers, known = [], dict[tuple[int, ...], Tokens]()
        for name, array in zip(self._names, arrays, strict=True):
            array = array.reshape(len(array), -1, array.shape[-1])
            shape = array.shape[:2]
            if shape not in known:
                fits = mask is not None and mask.shape == shape
                known[shape] = Tokens(mask if mask is not None and fits else np.ones(shape, bool))
            layers.append(Layer(name, array, known[shape]))
        return Batch(first, len(arrays[0]), layers)


def _host(array: Any) -> Any:
    from isoscore_star import backend_of

    found = backend_of(array, "states").to_numpy(array)
    return found if found.dtype == np.float64 else found.astype(np.float32)
