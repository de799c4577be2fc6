"""Names of arrays and columns, matched by patterns and listed in short messages."""

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
    """Return a list of names for a message, at most ten of them."""
    names = list(names)
    more = len(names) - SHOWN
    return ", ".join(map(quoted, names[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")


def quoted(text: str) -> str:
    """Quote a name or a cell, shortened."""
    return repr(shortened(text))


def shortened(text: str) -> str:
    """Return the start of a text that is too long for a message."""
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


def in_line(text: str) -> str:
    """Escape line breaks and control characters, which a terminal would obey."""
    return text if text.isprintable() else repr(text)[1:-1]


def suffix_of(path: Path) -> str:
    """Return a file's suffix in small letters: both of a compressed file, such as .csv.gz."""
    *_, before, last = ("", "", *path.suffixes)
    return (before + last if last.lower() == ".gz" else last).lower()


def place(path: Path, key: str) -> str:
    """Return a file's name, with the key of the array in it if there is one."""
    return f"{path}:{in_line(key)}" if key else str(path)
