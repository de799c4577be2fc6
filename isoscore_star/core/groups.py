"""Labels of points that belong together, such as the tokens of a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import count_of, shown
from isoscore_star.core.registry import backend_of


def group_labels(groups: Any, X: Any) -> list[NDArray[Any]] | None:
    """Check the labels of points that belong together, and flatten them like the points."""
    if groups is None:
        return None
    is_union = isinstance(X, (list, tuple))
    arrays, labels = (list(X), groups) if is_union else ([X], [groups])
    if not isinstance(labels, (list, tuple)) or len(labels) != len(arrays):
        raise InvalidValueError(
            "groups", f"expected a list with one array of labels for each of the {len(arrays)} clouds"
        )
    flat = []
    for array, part in zip(arrays, labels, strict=True):
        part = _labels(part)
        if tuple(part.shape) != tuple(array.shape[:-1]):
            raise InvalidValueError(
                "groups", f"expected shape {tuple(array.shape[:-1])}, one label for each point; got {tuple(part.shape)}"
            )
        flat.append(part.reshape(-1))
    if len({part.dtype.kind for part in flat} - {"i", "u"}) > 1 or len({part.dtype.kind for part in flat}) > 2:
        raise InvalidTypeError(
            "groups", f"expected labels of one kind in all clouds; got {', '.join(str(part.dtype) for part in flat)}"
        )
    return flat


def _labels(part: Any) -> NDArray[Any]:
    allowed = "expected an array of labels, integers or strings, one for each point"
    try:
        known = None if isinstance(part, (list, tuple)) else backend_of(part, "groups")
        labels = np.asarray(part) if known is None else known.to_numpy(part)
        if labels.dtype == object:
            np.unique(labels)
    except InvalidTypeError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, of mixed kinds, or what no array can be made of
        raise InvalidTypeError("groups", f"{allowed}; got {shown(part)}, of which there is none ({error})") from error
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise InvalidValueError(
            "groups", f"{allowed}; got {count_of(np.isnan(labels))} NaN. Give such points a label of their own"
        )
    return labels
