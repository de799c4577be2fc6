"""results.json, written by one process at a time, from which a killed sweep is resumed."""

from __future__ import annotations

import json
import platform
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from isoscore_star.atomic_files import LEFT_OVER, replacing, writing_to
from isoscore_star.finetuning._lock import alone_in
from isoscore_star.finetuning._settings import PENALTY, Cell, Settings
from isoscore_star.finetuning._steps import Steps, reading_results
from isoscore_star.readers import SelectionError

MEASURED = ("isoscore_star", "isoscore_star_unbiased", "intrinsic_dimension", "seconds_per_step")
"""Keys of a run's measured numbers, which may be None."""

SWEPT = "swept"
"""In place of a value that differs from run to run, among the shared settings."""


class Results:
    """A folder's results.

    Parameters
    ----------
    folder : Path
        See `alone`.
    settings : dict
        From `shared_settings`.

    Attributes
    ----------
    runs : list of dict
        The finished ones, those of earlier calls included.

    Raises
    ------
    SelectionError
        If the folder holds runs of other settings; the message says what differs.
    FileContentError
        If its results.json cannot be read.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.runs: list[dict[str, Any]] = []
        self._steps = Steps(folder / "steps.csv")
        self._path = folder / "results.json"
        self._read()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder, remove unfinished files and rows, and write results.json; a kill releases the lock.

        Raises
        ------
        InvalidValueError
            If nothing can be written there, or another process holds the lock.
        FileContentError
            If a file there cannot be read.
        """
        with alone_in(self.folder):
            self._read()  # once more: another process may have added runs before it ended
            with writing_to(self.folder):
                for left_over in self.folder.glob(LEFT_OVER):
                    left_over.unlink()
                self._steps.keep({run["name"] for run in self.runs})
                self.write()
            yield

    def find(self, cell: Cell, seed: int) -> dict[str, Any] | None:
        """Return the finished run of a cell and a seed."""
        return next((run for run in self.runs if run["seed"] == seed and cell_of(run) == cell), None)

    def find_twin(self, cell: Cell, seed: int) -> dict[str, Any] | None:
        """Return a finished run that differs only in settings without effect, such as ζ with λ = 0."""
        return next(
            (run for run in self.runs if run["seed"] == seed and cell_of(run).effective == cell.effective), None
        )

    def add(self, run: dict[str, Any]) -> None:
        """Add a finished run and write the file.

        Raises
        ------
        InvalidValueError
            If it cannot be written.
        """
        self.runs.append(run)
        with writing_to(self.folder):
            self._steps.sync()
            self.write()

    def to_dict(self) -> dict[str, Any]:
        """Return the content of results.json."""
        return {"settings": self.settings, "versions": _versions(), "runs": self.runs}

    def write(self) -> None:
        """Write results.json as a whole: a kill leaves the old or the new file, never a part."""
        with replacing(self._path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def add_step(self, step: Mapping[str, Any]) -> None:
        """Append a row to steps.csv, or raise InvalidValueError if it cannot be written."""
        self._steps.add(step)

    def _read(self) -> None:
        with writing_to(self.folder):
            if not self._path.exists():
                return
        with reading_results(self._path):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            before, self.runs = dict(content["settings"]), list(content["runs"])
            for run in self.runs:
                _require_run(run)
        differing = [
            f"{name} was {json.dumps(before.get(name))}, is now {json.dumps(self.settings.get(name))}"
            for name in dict.fromkeys([*before, *self.settings])
            if before.get(name) != self.settings.get(name)
        ]
        if differing and self.runs:
            raise SelectionError(
                "output",
                f"{self.folder} holds runs of other settings: {'; '.join(differing)}. "
                "Choose another folder, or give the same settings",
            )


def _require_run(run: Mapping[str, Any]) -> None:
    """Require all entries of a record that are compared and shown."""
    hash(cell_of(run))
    number = (int, float, type(None))
    kinds: list[tuple[Any, Any]] = [(run["name"], str), (run["seed"], int), (run["metric"]["name"], str)]
    kinds += [(run["metric"]["value"], number)]
    kinds += [(run[name], number) for name in MEASURED]
    kinds += [(value, number) for value in run["isoscore_star_by_layer"]] + [(note, str) for note in run["notes"]]
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise TypeError(f"a run has {reprlib.repr(value)} where another kind of value belongs")


def shared_settings(settings: Settings, base: Cell, swept: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the settings that all runs of a folder share; those of the penalty are part of each run's name."""
    cell = {name: SWEPT if name in swept else value for name, value in asdict(base).items() if name not in PENALTY}
    return {**asdict(settings), **cell, **more}


def cell_of(run: Mapping[str, Any]) -> Cell:
    """Return the cell of a run's record."""
    return Cell(**{field.name: run[field.name] for field in fields(Cell)})


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("isoscore-star", "torch", "transformers", "datasets", "scikit-learn", "scikit-dimension"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
