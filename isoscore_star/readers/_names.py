"""Names of arrays and columns: picked by name or pattern, and listed in messages that stay short."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

SHOWN = 10
_SHOWN_LETTERS = 60


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the name that is the pattern itself or, without one, all that it matches: ``*``, ``?``, ``[0-9]``."""
    names = list(names)
    return [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]


def listed(names: Iterable[str]) -> str:
    """List names, at most ten of them."""
    names = list(names)
    more = len(names) - SHOWN
    return ", ".join(map(quoted, names[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")


def quoted(text: str) -> str:
    """Quote a name or a cell, shortened."""
    return repr(shortened(text))


def shortened(text: str) -> str:
    """Cut a text to what a line has room for."""
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


def in_line(text: str) -> str:
    """Escape what would break a line, or do worse to a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def place(path: Path, key: str) -> str:
    """Name a file, and the array in it if that has a key."""
    return f"{path}:{in_line(key)}" if key else str(path)
