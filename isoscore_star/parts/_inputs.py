"""What a part was read from, so that a change is noticed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def identity(paths: Iterable[str | Path]) -> list[list[str | int]]:
    """Return name, size in bytes and time of the last change, in nanoseconds, of each file.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, and folders with all files in them, in the order of their names; what does not exist, as a key beside the
        points, is left out.
    """
    found: list[list[str | int]] = []
    for file in (file for path in paths for file in _files(Path(path))):
        status = file.stat()
        found.append([str(file.resolve()), status.st_size, status.st_mtime_ns])
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.exists():
        yield path


def difference(before: object, now: object) -> str:
    """Say which of the files changed."""
    old, new = ({str(name): rest for name, *rest in _entries(of)} for of in (before, now))
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            return f"{name} is not there any more"
        if name not in old:
            return f"{name} is new"
        if old[name] != new[name]:
            return f"{name} has changed since"
    return "the files come in another order"


def _entries(of: object) -> list[list[str | int]]:
    return of if isinstance(of, list) else []
