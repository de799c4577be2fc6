"""The output folder of a Hugging Face Trainer: the log in trainer_state.json, and event files, which are newer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isoscore_star import MissingDependencyError
from isoscore_star.readers import FileContentError
from isoscore_star.watching._runs import (
    FINISHED,
    UNKNOWN,
    Curves,
    Series,
    Watched,
    WatchedRun,
    furthest,
    left_out,
    too_large,
)
from isoscore_star.watching._tensorboard import EventFiles

STATE = "trainer_state.json"

_OTHER = ("step", "epoch", "total_flos")
_SUMMARY = "train_runtime"  # the line at the end, whose train_loss is the mean of all steps


class TrainerLog:
    """Reader of such a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events = EventFiles(folder)
        self._state: Mapping[str, Any] = {}
        self._saved, self._damaged = Curves(), 0
        self._stamp: Any = None

    @classmethod
    def fits(cls, folder: Path) -> bool:
        """Return whether a folder is one."""
        return next(_state_files(folder), None) is not None

    def read(self) -> Watched:
        """Read the state of the last checkpoint that is whole, and event files."""
        self._read_state()
        notes: list[str] = []
        live: dict[str, Series] = {}
        try:
            if self._events.exist():
                live = self._events.read()[1]
        except MissingDependencyError as error:
            notes.append(error.reason)
        saved = self._saved.series()
        notes += left_out(self._damaged, STATE)
        series = furthest([saved, live])
        steps, reached = (_whole(self._state.get(name)) for name in ("max_steps", "global_step"))
        steps = steps if steps is not None and steps > 0 else None
        step = max((own.steps[-1] for own in series.values()), default=reached)
        state = FINISHED if steps is not None and (reached or 0) >= steps else UNKNOWN
        run = WatchedRun(self.folder.resolve().name, series, step, steps, state)
        return Watched(str(self.folder), "trainer", (run,), state, notes=tuple(notes))

    def _read_state(self) -> None:
        files = list(_state_files(self.folder))
        stamp = [(str(file), file.stat().st_mtime_ns) for file in files if file.exists()]
        if stamp == self._stamp:
            return
        error: FileContentError | None = None
        states = []
        for file in files:
            try:
                states.append(_state_of(file))
                if file.parent != self.folder:
                    break  # older checkpoints hold less
            except FileContentError as damage:  # which may be about to be written
                error = error or damage
            except OSError:  # deleted, as old checkpoints are
                continue
        if states:
            self._state = max(states, key=lambda state: _whole(state.get("global_step")) or 0)
            self._saved, self._damaged = _curves(self._state)
            self._stamp = stamp
        elif error is not None and not self._state:
            raise error


def _state_files(folder: Path) -> Iterator[Path]:
    """Yield the folder's own file, and those of its checkpoints, the last one first."""
    if (folder / STATE).is_file():
        yield folder / STATE
    numbered = [
        (int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := re.search(r"-(\d+)$", path.name))
    ]
    for _, path in sorted(numbered, reverse=True):
        if (path / STATE).is_file():
            yield path / STATE


def _state_of(file: Path) -> Mapping[str, Any]:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileContentError(file, f"cannot be read as the state of a Trainer ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise FileContentError(file, "is no state of a Trainer: it has no log_history")
    return state


def _curves(state: Mapping[str, Any]) -> tuple[Curves, int]:
    """Return the curves, and how many lines were left out."""
    curves, damaged = Curves(), 0
    for line in state["log_history"]:
        step = _whole(line.get("step")) if isinstance(line, dict) else None
        if step is None or any(map(too_large, line.values())):
            damaged += 1
        elif _SUMMARY not in line:
            for name, value in line.items():
                if name not in _OTHER:
                    curves.add(name, step, value)
    return curves, damaged


def _whole(value: Any) -> int | None:
    return value if type(value) is int and not too_large(value) else None
