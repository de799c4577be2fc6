"""TensorBoard's event files, read by TensorBoard itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isoscore_star import MissingDependencyError
from isoscore_star.watching._folders import files_within, written
from isoscore_star.watching._runs import Curves, Series, Watched, WatchedRun

EVENTS = "*tfevents*"


class EventFiles:
    """Reader of the newest folder with event files that hold scalars."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[Path, Any] = {}

    def exist(self) -> bool:
        """Return whether there is an event file."""
        return bool(files_within(self.folder, EVENTS))

    def read(self) -> tuple[str, dict[str, Series]]:
        """Return the folder's name and its curves.

        Raises
        ------
        MissingDependencyError
            If TensorBoard is not installed.
        """
        stamps: dict[Path, int] = {}
        for file in files_within(self.folder, EVENTS):
            stamps[file.parent] = max(written(file), stamps.get(file.parent, 0))
        for place in sorted(stamps, key=stamps.__getitem__, reverse=True):
            if place not in self._open:
                self._open[place] = _accumulator(place)
            series = _curves(self._open[place].Reload()).series()
            if series:
                return place.resolve().name, series
        return self.folder.resolve().name, {}


class TensorBoardLog:
    """Reader of a folder that has nothing but event files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events = EventFiles(folder)

    @classmethod
    def fits(cls, folder: Path) -> bool:
        """Return whether there is one."""
        return EventFiles(folder).exist()

    def read(self) -> Watched:
        """Read what is new."""
        name, series = self._events.read()
        step = max((own.steps[-1] for own in series.values()), default=None)
        return Watched(str(self.folder), "tensorboard", (WatchedRun(name, series, step),))


def _accumulator(place: Path) -> Any:
    try:
        from tensorboard.backend.event_processing import event_accumulator
    except ImportError as error:
        raise MissingDependencyError(
            "RUN_DIR",
            "it has event files, which TensorBoard reads, and that is not installed: "
            'pip install "isoscore-star[watch]"',
        ) from error
    everything = {event_accumulator.SCALARS: 0, event_accumulator.TENSORS: 0}
    return event_accumulator.EventAccumulator(str(place), size_guidance=everything)


def _curves(events: Any) -> Curves:
    from tensorboard.util import tensor_util

    curves, tags = Curves(), events.Tags()
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            if tag != "epoch":
                curves.add(tag, event.step, event.value)
    for tag in tags["tensors"]:  # as TensorFlow 2 writes scalars
        for event in events.Tensors(tag):
            array = tensor_util.make_ndarray(event.tensor_proto)
            if array.ndim == 0 and array.dtype.kind in "fiu":
                curves.add(tag, event.step, float(array))
    return curves
