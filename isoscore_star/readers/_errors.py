"""Errors of readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.readers._names import in_line, listed, place, suffix_of

_LONGEST_REASON = 320


class SelectionError(InvalidValueError):
    """A file, its format, or the key of an array in it does not exist, or matches more than one."""


class SeveralArraysError(SelectionError):
    """A pattern matches several arrays of a file.

    Attributes
    ----------
    names : tuple of str
        The arrays' names.
    """

    def __init__(self, path: Path, pattern: str, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(str(path), f"{pattern!r} matches several arrays, choose one: {listed(self.names)}")


class FileContentError(InvalidValueError):
    """A file is damaged, or does not hold what its suffix says."""


@contextmanager
def reading(path: Path, part: str = "") -> Iterator[None]:
    """Raise FileContentError, with the file and the part of it, for any exception: parsers raise all kinds."""
    try:
        yield
    except IsoScoreError:
        raise
    except MemoryError as error:
        raise FileContentError(place(path, part), f"does not fit into memory{_because(error)}") from error
    except Exception as error:
        raise FileContentError(
            place(path, part), f"cannot be read as {suffix_of(path) or 'a dataset'}{_because(error)}"
        ) from error


def _because(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    if isinstance(error, UnicodeDecodeError):
        lines = [f"it is no text in UTF-8; save it as that ({error})"]
    if not lines or isinstance(error, LookupError):  # whose whole message is a missing key
        lines = [" ".join([type(error).__name__, *lines[:1]])]
    return f": {in_line(lines[0][:_LONGEST_REASON])}"
