"""Conversion of objects that have ``__array__``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError


def as_numpy(name: str, array: Any) -> NDArray[Any]:
    """Convert an object with ``__array__`` to an ndarray."""
    if np.ma.is_masked(array):
        raise InvalidValueError(
            name,
            f"{np.ma.getmaskarray(array).sum()} values are masked, by NumPy's masked array, which would be "
            "lost. Give its data as it is, and which points count as mask=",
        )
    try:
        return np.asarray(array)
    except MemoryError:
        raise
    except Exception as error:  # a third party's __array__ may raise anything
        raise InvalidTypeError(name, f"{type(array).__name__} cannot be brought to NumPy: {error}") from error
