"""What a part was read from, so that a change is noticed, and that the same points come once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isoscore_star.readers import located

_LOOKED_AT = 2**16
"""Bytes at the beginning and at the end of a file by which it is known, wherever it lies."""


def identity(names: Iterable[str | Path]) -> list[list[str | int]]:
    """Return name, size in bytes, time of the last change in nanoseconds, and a hash of both ends of each file.

    Parameters
    ----------
    names : iterable of str or Path
        Files, folders and patterns; see `isoscore_star.readers.open_array`. Of what is no file here, as a key beside
        the points, or a name on the Hub, the name alone.
    """
    found: list[list[str | int]] = []
    for name in names:
        files = [file for place in located(name).shards for file in _files(place)]
        for file in files:
            status = file.stat()
            found.append([str(file.resolve()), status.st_size, status.st_mtime_ns, _ends(file, status.st_size)])
        if not files:
            found.append([str(name), 0, 0, ""])
    return found


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.exists():
        yield path


def _ends(path: Path, size: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_LOOKED_AT))
        file.seek(max(0, size - _LOOKED_AT))
        digest.update(file.read(_LOOKED_AT))
    return digest.hexdigest()[:32]


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


def points_of(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what is read of each file, by its content, and its name; of merged parts that of all."""
    for part in settings.get("merged", [settings]):
        chosen = [part.get(name) for name in ("keys", "mask")]
        for name, size, _, ends in _entries(part.get("files")):
            yield f"{size} {ends} {chosen}", str(name)


def _entries(of: object) -> list[Any]:
    return of if isinstance(of, list) else []
