"""What a part was read from, so that a change is noticed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path


def identity(paths: Iterable[str | Path]) -> list[list[str | int]]:
    """Return name, size in bytes and time of the last change, in nanoseconds, of each file.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, patterns, and folders with all files in them, in the order of their names; of what is no file here, as a
        key beside the points, or a name on the Hub, the name alone.
    """
    found: list[list[str | int]] = []
    for path in paths:
        files = list(_files(Path(path)))
        for file in files:
            status = file.stat()
            found.append([str(file.resolve()), status.st_size, status.st_mtime_ns])
        if not files:
            found.append([str(path), 0, 0])
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.exists():
        found = [path]
    else:
        found = [Path(name) for name in sorted(glob(str(path), recursive=True))]  # noqa: PTH207 - hidden files stay out
    for place in found:
        if place.is_dir():
            yield from sorted(file for file in place.rglob("*") if file.is_file())
        else:
            yield place


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
