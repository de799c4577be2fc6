"""Free memory, which estimates are compared with before anything is read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from isoscore_star import InvalidValueError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return the bytes that are free without swapping; None where the system does not report it."""
    known = [number for number in (_free_in_machine(), _free_in_container()) if number is not None]
    return min(known, default=None)


def require_memory(name: str, needed: int, what: str, advice: str = "") -> None:
    """Require that an estimate of memory does not exceed what is free.

    Parameters
    ----------
    name : str
        The file, for the message.
    needed : int
        Bytes.
    what : str
        What takes them, the start of the message.
    advice : str, optional
        What to do instead, the end of the message.

    Raises
    ------
    InvalidValueError
        If fewer are free; the message has both figures.
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
    with suppress(AttributeError, OSError, ValueError):  # not Linux: all memory, used or not
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _free_in_container() -> int | None:
    """Return what the limit of a container (control groups, version 2) leaves; cached files count as free."""
    with suppress(OSError, ValueError, StopIteration):
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return max(0, limit - used + cached)
    return None
