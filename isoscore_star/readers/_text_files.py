"""Text files, compressed or not."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, TextIO, cast

from isoscore_star.readers._names import suffix_of

_COMPRESSED = ".gz"
_EXPANSION = 20
"""A compressed table of numbers is about a half to a twentieth of its text."""


def opened(path: Path, **options: Any) -> TextIO:
    """Open a text file by `open`'s options; one that ends in .gz is unpacked, and its checksum compared at its end."""
    if suffix_of(path).endswith(_COMPRESSED):
        return cast(TextIO, gzip.open(path, "rt", **options))
    return cast(TextIO, path.open(**options))


def format_of_text(path: Path) -> str:
    """Return the suffix of a text file without that of its compression."""
    return suffix_of(path).removesuffix(_COMPRESSED)


def most_letters(path: Path) -> int:
    """Return about how many letters a file may have."""
    return path.stat().st_size * (_EXPANSION if suffix_of(path).endswith(_COMPRESSED) else 1)
