"""One process at a time in a folder of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoscore_star import InvalidValueError
from isoscore_star.atomic_files import writing_to


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder and lock it for other processes, until this one ends, killed or not."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    with writing_to(folder, NotImplementedError):  # raised by file systems without locks
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InvalidValueError(
                "output", f"another fine-tuning is at work in {folder}. Wait for its end, or choose another folder"
            ) from error
    try:
        yield
    finally:
        lock.release()
