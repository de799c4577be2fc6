"""What has ``__array__`` counts as NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import count_of


def as_numpy(name: str, array: Any) -> NDArray[Any]:
    """Bring what has ``__array__`` to NumPy."""
    if np.ma.is_masked(array):
        raise InvalidValueError(
            name,
            f"{count_of(np.ma.getmaskarray(array))} values are masked, by NumPy's masked array, which would be "
            "lost. Give its data as it is, and which points count as mask=",
        )
    try:
        return np.asarray(array)
    except MemoryError:
        raise
    except Exception as error:  # whatever the __array__ of somebody's class raises
        raise InvalidTypeError(name, f"{type(array).__name__} cannot be brought to NumPy: {error}") from error
