"""Runs as they stand: curves by name, and how far they are."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

RUNNING, FINISHED, STOPPED, UNKNOWN = "running", "finished", "stopped", "unknown"

LAYER = re.compile(r"isoscore_star/layer_(\d+)$")

_PHASES = {"train": "train", "eval": "eval", "val": "eval", "valid": "eval", "validation": "eval", "test": "test"}


@dataclass(frozen=True)
class Series:
    """One curve: values at steps, in their order."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def first(self) -> float | None:
        """The first finite value."""
        return next((value for value in self.values if math.isfinite(value)), None)

    @property
    def last(self) -> float:
        """The last value."""
        return self.values[-1]


@dataclass(frozen=True)
class WatchedRun:
    """One run.

    Attributes
    ----------
    name : str
        Of the run, in its folder.
    series : dict of str to Series
        By names such as ``train/loss``, ``eval/accuracy``, ``train/isoscore_star`` and
        ``train/isoscore_star/layer_07``, whatever the log calls them.
    step, steps : int or None
        The last step, and that of the end, if it is known.
    state : {"running", "finished", "stopped", "unknown"}
        Unknown, where a log does not tell of its end.
    """

    name: str
    series: Mapping[str, Series] = field(default_factory=dict)
    step: int | None = None
    steps: int | None = None
    state: str = UNKNOWN

    def layers(self, phase: str) -> dict[str, Series]:
        """Return the scores of layers of a phase, in their order."""
        found = {name: own for name, own in self.series.items() if name.startswith(f"{phase}/") and LAYER.search(name)}
        return dict(sorted(found.items(), key=lambda item: int(LAYER.search(item[0])[1])))  # type: ignore[index]


@dataclass(frozen=True)
class Watched:
    """A folder as it stands.

    Attributes
    ----------
    folder, kind : str
        The folder, and what wrote it: ``"finetune"``, ``"trainer"``, ``"lightning"`` or ``"tensorboard"``.
    runs : tuple of WatchedRun
        The current or last one at the end.
    state : {"running", "finished", "stopped", "unknown"}
        Of all of them.
    results : tuple of dict
        Of a fine-tuning's finished runs: ``name``, ``metric``, ``value``, ``isoscore_star``,
        ``isoscore_star_unbiased``.
    planned : int or None
        Number of runs, if it is known.
    notes : tuple of str
        What could not be read, or why a run stopped.
    """

    folder: str
    kind: str
    runs: tuple[WatchedRun, ...]
    state: str = UNKNOWN
    results: tuple[Mapping[str, Any], ...] = ()
    planned: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing will be written any more."""
        return self.state in (FINISHED, STOPPED)

    def to_dict(self) -> dict[str, Any]:
        """Return what `isoscore-star watch --json` prints; values that are not finite are None."""
        return {
            "folder": self.folder,
            "kind": self.kind,
            "state": self.state,
            "planned": self.planned,
            "runs": [_run_to_dict(run) for run in self.runs],
            "results": [{name: _finite(value) for name, value in result.items()} for result in self.results],
            "notes": list(self.notes),
        }


class Log(Protocol):
    """A log that is read again and again."""

    def read(self) -> Watched:
        """Return the folder as it stands."""
        ...


class Curves:
    """Curves while they are read, under the names of `WatchedRun`."""

    def __init__(self) -> None:
        self._points: dict[str, dict[int, float]] = {}
        self._series: dict[str, Series] | None = None  # in order, until a point comes

    def add(self, name: str, step: int, value: Any) -> None:
        """Add a point; anything but a number is left out. A later one of the same step replaces it."""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not too_large(value):
            self._points.setdefault(canonical(name), {})[step] = float(value)
            self._series = None

    def series(self) -> dict[str, Series]:
        """Return the curves, in the order of their steps."""
        if self._series is None:
            ordered = {name: sorted(points.items()) for name, points in self._points.items()}
            self._series = {name: Series(*map(tuple, zip(*points, strict=True))) for name, points in ordered.items()}
        return dict(self._series)

    @property
    def step(self) -> int | None:
        """The last step."""
        return max((own.steps[-1] for own in self.series().values()), default=None)


def too_large(value: Any) -> bool:
    """Return whether a value is a whole number that no float holds, as JSON's may be."""
    return isinstance(value, int) and value.bit_length() > sys.float_info.max_exp - 1


def left_out(damaged: int, file: str) -> list[str]:
    """Return a note of lines that were left out, if there are some."""
    return [f"{damaged} {'line' if damaged == 1 else 'lines'} of {file} cannot be read"] if damaged else []


def canonical(name: str) -> str:
    """Return a name with its phase in front: ``eval_loss``, ``val/loss`` and ``val_loss`` are ``eval/loss``.

    Examples
    --------
    >>> [canonical(name) for name in ("loss", "train_loss", "eval/accuracy", "isoscore_star/layer_07")]
    ['train/loss', 'train/loss', 'eval/accuracy', 'train/isoscore_star/layer_07']
    """
    match = re.match(r"([a-z]+)[/_](.+)", name)
    if match is None or match[1] not in _PHASES:
        return f"train/{name}"
    return f"{_PHASES[match[1]]}/{match[2]}"


def furthest(logs: Iterable[Mapping[str, Series]]) -> dict[str, Series]:
    """Return each curve from the log in which it goes furthest."""
    merged: dict[str, Series] = {}
    for log in logs:
        for name, own in log.items():
            if name not in merged or (own.steps[-1], len(own.steps)) > (
                merged[name].steps[-1],
                len(merged[name].steps),
            ):
                merged[name] = own
    return merged


def _run_to_dict(run: WatchedRun) -> dict[str, Any]:
    series = {
        name: {"steps": list(own.steps), "values": [_finite(value) for value in own.values]}
        for name, own in sorted(run.series.items())
    }
    return {"name": run.name, "step": run.step, "steps": run.steps, "state": run.state, "series": series}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
