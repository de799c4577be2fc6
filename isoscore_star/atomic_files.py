"""Writing of result files: whole or not at all, with one error where it fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isoscore_star import InvalidValueError, IsoScoreError

LEFT_OVER = ".*.partial"
"""Pattern of the names of files that a killed process left unfinished."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path of this process in the same folder, whose file replaces `path` at the end, unless anything fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        partial.chmod(_usual_mode())  # some libraries write files that only their owner may read
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _usual_mode() -> int:
    """Return the permissions that new files have here."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def sync(path: Path) -> None:
    """Write a file's buffered content to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def writing_to(folder: Path, also: type[Exception] = OSError, argument: str = "output") -> Iterator[None]:
    """Raise InvalidValueError for every OSError inside, and for `also`, which a library raises instead."""
    try:
        yield
    except IsoScoreError:
        raise
    except (OSError, also) as error:
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
        full = number in _FULL or any(os.strerror(number) in reason for number in _FULL)
        advice = "Make room there, or choose" if full else "Choose"
        raise InvalidValueError(argument, f"cannot write to {folder}: {reason}. {advice} another folder") from error
