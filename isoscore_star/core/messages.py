"""How messages show what came."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shown(value: object) -> str:
    """Return what came, in a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python is willing to print
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def count_of(bad: NDArray[np.bool_]) -> int:
    """Return how many are true."""
    return int(np.count_nonzero(bad))
