"""A folder of ``isoscore-star finetune``: log.jsonl, which grows, and results.json, which is replaced."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoscore_star.readers import FileContentError
from isoscore_star.watching._run_log import LOG_FILE, LogLines, number
from isoscore_star.watching._runs import (
    FINISHED,
    RUNNING,
    STOPPED,
    UNKNOWN,
    Curves,
    Watched,
    WatchedRun,
    left_out,
    too_large,
)

RESULTS = "results.json"

_OTHER = ("event", "run", "step", "epoch")


class _Run:
    def __init__(self, steps: Any = None) -> None:
        self.curves, self.steps, self.state = Curves(), steps, RUNNING


class FinetuneLog:
    """Reader of such a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = LogLines(folder / LOG_FILE)
        self._runs: dict[str, _Run] = {}
        self._sweep: Mapping[str, Any] = {}
        self._state, self._reason = UNKNOWN, ""

    @classmethod
    def fits(cls, folder: Path) -> bool:
        """Return whether a folder is one."""
        try:
            return (folder / LOG_FILE).is_file() or _finished_runs(folder / RESULTS) is not None
        except FileContentError:  # results of something else
            return False

    def read(self) -> Watched:
        """Read what is new."""
        try:
            anew, lines = self._lines.new()
        except FileNotFoundError:  # of a fine-tuning that ended, or is about to begin
            anew, lines = False, []
        if anew:
            self._runs, self._sweep, self._state, self._reason = {}, {}, UNKNOWN, ""
        for line in lines:
            self._take(line)
        results = _finished_runs(self.folder / RESULTS) or []
        state, reason = self._state, self._reason
        if state == RUNNING and self._is_gone():
            state, reason = STOPPED, "its process is gone"
        elif state == UNKNOWN and results and not self._lines.path.exists():
            state = FINISHED
        notes = [f"it stopped: {reason}"] if reason else []
        notes += left_out(self._lines.damaged, LOG_FILE)
        planned = self._sweep.get("runs")
        return Watched(
            str(self.folder),
            "finetune",
            tuple(_watched(name, run, state) for name, run in self._runs.items()),
            state,
            tuple(results),
            len(planned) if isinstance(planned, list) else None,
            tuple(notes),
        )

    def _take(self, line: Mapping[str, Any]) -> None:
        event, name = line["event"], str(line.get("run"))
        if event == "sweep":
            self._sweep, self._state, self._reason = line, RUNNING, ""
        elif event == "done":
            self._state = FINISHED
        elif event == "stopped":
            self._state, self._reason = STOPPED, str(line.get("reason"))
        elif event == "begin":
            self._runs.pop(name, None)  # of a call that was killed
            self._runs[name] = _Run(line.get("steps"))
        elif event == "end" and name in self._runs:
            self._runs[name].state = FINISHED
        elif event == "log":
            run = self._runs.setdefault(name, _Run())
            for key, value in line.items():
                if key not in _OTHER:
                    run.curves.add(key, line["step"], number(value))

    def _is_gone(self) -> bool:
        pid = self._sweep.get("pid")
        if os.name != "posix" or not isinstance(pid, int) or pid < 1 or self._sweep.get("host") != socket.gethostname():
            return False
        try:
            os.kill(pid, 0)  # which only asks
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


def _watched(name: str, run: _Run, state: str) -> WatchedRun:
    own = run.state if run.state == FINISHED or state == RUNNING else STOPPED
    steps = run.steps if isinstance(run.steps, int) else None
    return WatchedRun(name, run.curves.series(), run.curves.step, steps, own)


def _finished_runs(path: Path) -> list[dict[str, Any]] | None:
    """Return the runs of results.json; None if there is none, or it is another command's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise FileContentError(path, f"cannot be read as the results of a fine-tuning ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
        return None
    try:
        return [
            {
                "name": str(run["name"]),
                "metric": str(run["metric"]["name"]),
                "value": _number(run["metric"]["value"]),
                "isoscore_star": _number(run["isoscore_star"]),
                "isoscore_star_unbiased": _number(run["isoscore_star_unbiased"]),
            }
            for run in content["runs"]
        ]
    except (KeyError, TypeError) as error:
        raise FileContentError(path, f"cannot be read as the results of a fine-tuning ({error})") from error


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not too_large(value)):
        return value
    raise TypeError(f"expected a number; got {type(value).__name__}")
