"""Labels of groups of points, such as the tokens of a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import shown
from isoscore_star.core.registry import backend_of


def group_labels(groups: Any, X: Any) -> list[NDArray[Any]] | None:
    """Check the labels of groups, and flatten them like the points."""
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
        part, expected = _labels(part), tuple(array.shape[:-1])
        if part.shape != expected:
            raise InvalidValueError(
                "groups", f"expected shape {expected}, one label for each point; got {tuple(part.shape)}"
            )
        flat.append(part.reshape(-1))
    kinds = {part.dtype.kind for part in flat}
    if len(kinds - {"i", "u"}) > 1 or len(kinds) > 2:
        raise InvalidTypeError(
            "groups", f"expected labels of one kind in all clouds; got {', '.join(str(part.dtype) for part in flat)}"
        )
    return flat


def _labels(part: Any) -> NDArray[Any]:
    allowed = "expected an array of labels, integers or strings, one for each point"
    try:
        sequence = isinstance(part, (list, tuple))
        labels = np.asarray(part) if sequence else backend_of(part, "groups").to_numpy(part)
        if labels.dtype == object:
            np.unique(labels)  # raises for labels of mixed kinds
    except InvalidTypeError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # also ragged lists
        raise InvalidTypeError("groups", f"{allowed}; got {shown(part)}, of which there is none ({error})") from error
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise InvalidValueError(
            "groups", f"{allowed}; got {np.isnan(labels).sum()} NaN. Give such points a label of their own"
        )
    return labels
