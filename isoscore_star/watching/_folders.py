"""Files in a folder and the folders in it, to a depth in which logs are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

_DEPTH = 3  # lightning_logs/version_0/metrics.csv, runs/Nov27_host/events...


def files_within(folder: Path, pattern: str) -> list[Path]:
    """Return the files whose names match a pattern."""
    found = []
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [name for name in folders if not name.startswith(".")] if depth < _DEPTH else []
        found += [Path(place) / name for name in files if fnmatchcase(name, pattern)]
    return found


def newest(paths: Iterable[Path]) -> Path | None:
    """Return the path that was written last."""
    return max(paths, key=written, default=None)


def written(path: Path) -> int:
    """Return when a file was written; 0 for one that was deleted meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
