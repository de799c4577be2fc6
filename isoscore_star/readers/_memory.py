"""What fits into memory: an estimate is held against it before anything is read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from isoscore_star import InvalidValueError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Count the bytes that can be had without swapping; None where the system does not say."""
    known = [number for number in (_free_in_machine(), _free_in_container()) if number is not None]
    return min(known, default=None)


def require_memory(name: str, needed: int, what: str, advice: str = "") -> None:
    """Refuse what would take more memory than there is, with both figures.

    Parameters
    ----------
    name : str
        The file, for the message.
    needed : int
        Bytes.
    what : str
        What takes them, the start of a sentence.
    advice : str, optional
        What to do instead, the end of one.

    Raises
    ------
    InvalidValueError
        If so many are not free.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise InvalidValueError(name, f"{what} takes {_figure(needed)} of memory; {_figure(free)} are free{advice}")


def _figure(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _free_in_machine() -> int | None:
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):  # no Linux: all there is, used or not
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _free_in_container() -> int | None:
    """Read what the limit of a container leaves (control groups, version 2); cached files make way, so do not count."""
    with suppress(OSError, ValueError, StopIteration):
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return max(0, limit - used + cached)
    return None
