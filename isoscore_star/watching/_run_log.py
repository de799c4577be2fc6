"""log.jsonl: one line for each event of a fine-tuning, appended, which another process reads while it grows."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.atomic_files import writing_to
from isoscore_star.watching._runs import too_large

LOG_FILE = "log.jsonl"


class RunLog:
    r"""Writer of a folder's log.

    A line is written at once and at the end, so that a kill leaves whole lines, but perhaps the last; the next writer
    begins a new one.

    Parameters
    ----------
    folder : Path
        For log.jsonl.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RunLog(Path(folder)).write("log", run="a", step=1, loss=0.5)
    ...     (Path(folder) / "log.jsonl").read_text()
    '{"event": "log", "run": "a", "step": 1, "loss": 0.5}\n'
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE
        self._started = False

    def write(self, event: str, **values: Any) -> None:
        """Append a line; numbers that are not finite, which JSON lacks, are strings.

        Raises
        ------
        InvalidValueError
            If it cannot be written.
        """
        line = json.dumps({"event": event, **{name: _plain(value) for name, value in values.items()}}) + "\n"
        with writing_to(self._path.parent), self._path.open("ab", buffering=0) as file:
            if not self._started and file.tell() and not self._ends_whole():
                line = "\n" + line
            file.write(line.encode())
        self._started = True

    @contextmanager
    def sweep(self, runs: Sequence[str]) -> Iterator[None]:
        """Tell of the runs that follow in the with block, and of their end."""
        self.write("sweep", runs=list(runs), pid=os.getpid(), host=socket.gethostname())
        try:
            yield
        except BaseException as error:
            reason = (
                "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).strip() or type(error).__name__
            )
            with suppress(InvalidValueError):
                self.write("stopped", reason=reason.splitlines()[0])
            raise
        self.write("done")

    def _ends_whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


class LogLines:
    """Reader of the lines that were added since the last read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self._offset, self._file = 0, (0, 0)

    def new(self) -> tuple[bool, list[Mapping[str, Any]]]:
        """Return whether the file is another one than before, and its new lines; one that is cut off has to wait."""
        with self.path.open("rb") as file:
            about = os.fstat(file.fileno())
            anew = (about.st_dev, about.st_ino) != self._file or about.st_size < self._offset
            if anew:
                self._offset, self.damaged = 0, 0
                self._file = (about.st_dev, about.st_ino)
            file.seek(self._offset)
            whole, _, _ = file.read().rpartition(b"\n")
        if not whole:
            return anew, []
        self._offset += len(whole) + 1
        return anew, [line for line in map(self._parsed, whole.split(b"\n")) if line is not None]

    def _parsed(self, line: bytes) -> Mapping[str, Any] | None:
        if not line.strip():
            return None
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict) and _is_event(parsed):
            return parsed
        self.damaged += 1
        return None


def _is_event(line: Mapping[str, Any]) -> bool:
    event = line.get("event")
    if not isinstance(event, str) or any(map(too_large, line.values())):
        return False
    return event != "log" or type(line.get("step")) is int


def number(value: Any) -> Any:
    """Return a number that a line holds as a string."""
    return float(value) if value in ("nan", "inf", "-inf") else value


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
