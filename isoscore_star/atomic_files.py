"""Results as files that are there whole or not at all, and one sentence where they cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isoscore_star import InvalidValueError, IsoScoreError

LEFT_OVER = ".*.partial"
"""Names of what a killed process had not finished, as a pattern."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Return a path to write to, whose file takes the place of another one once it is whole and on the disk.

    Parameters
    ----------
    path : Path
        What is replaced. If anything fails, it stays as it is.

    Yields
    ------
    Path
        In the same folder, and this process's own.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Have the disk keep what was written to a file, whatever comes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def writing_to(folder: Path, also: type[Exception] = OSError) -> Iterator[None]:
    """Say in one sentence that a folder cannot be written to.

    Parameters
    ----------
    folder : Path
        The folder.
    also : type of Exception, default OSError
        What a library raises in place of an OSError.

    Raises
    ------
    InvalidValueError
        For every OSError inside, and for `also`.
    """
    try:
        yield
    except IsoScoreError:
        raise
    except (OSError, also) as error:
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
        full = number in _FULL or any(os.strerror(number) in reason for number in _FULL)
        advice = "Make room there, or choose" if full else "Choose"
        raise InvalidValueError("output", f"cannot write to {folder}: {reason}. {advice} another folder") from error
