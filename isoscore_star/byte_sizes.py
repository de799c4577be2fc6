"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re

from isoscore_star import InvalidValueError

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def bytes_of(text: str | int | float | None) -> int | None:
    """Return bytes from a word such as ``"8GB"``.

    Raises
    ------
    InvalidValueError
        If it is none.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(text).lower())
    if found is None or not 0 < float(found[1]) < 1e18:
        raise InvalidValueError("memory", f"expected a number of bytes, such as 8GB; got {text!r}")
    return int(float(found[1]) * _SIZES[found[2]])


def figure(count: int) -> str:
    """Return bytes in MB or GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 10**8 else f"{count / 1e6:,.2f} MB"
