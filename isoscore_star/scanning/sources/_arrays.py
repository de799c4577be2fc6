"""Layers of states that are arrays of any framework, with a batch's mask: of Keras and Flax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from isoscore_star import InvalidValueError, backend_of
from isoscore_star.scanning._batches import Batch, Layer, Tokens


def required_function(mask: Any) -> Any:
    """Require a function that returns a batch's mask, or none."""
    if mask is not None and not callable(mask):
        raise InvalidValueError("mask", f"expected a function that returns a batch's mask, or none; got {mask!r}")
    return mask


def batch_of_arrays(first: int, states: Mapping[str, Any], mask: Any) -> Batch:
    """Return the batch of states of shape (b, ..., d) by layer, whose points the mask says, if there is one.

    Raises
    ------
    InvalidValueError
        If a layer has other sequences or tokens than the mask: to count padding would be a wrong number.
    """
    keep = None if mask is None else np.asarray(mask) != 0
    layers, known = [], dict[tuple[int, ...], Tokens]()
    for name, array in states.items():
        rows = _host(array)
        rows = rows.reshape(len(rows), -1, rows.shape[-1])
        shape = rows.shape[:2]
        if keep is not None and keep.shape != shape:
            raise InvalidValueError(
                "mask", f"the states of {name!r} are of {shape} sequences and tokens, the mask is of shape {keep.shape}"
            )
        if shape not in known:
            known[shape] = Tokens(np.ones(shape, bool) if keep is None else keep)
        layers.append(Layer(name, rows, known[shape]))
    if len({len(layer.states) for layer in layers}) > 1:
        raise InvalidValueError("layers", "the layers' states have different numbers of sequences, so no union")
    return Batch(first, len(layers[0].states), layers)


def _host(array: Any) -> Any:
    found = backend_of(array, "states").to_numpy(array)
    return found if found.dtype == np.float64 else found.astype(np.float32)
