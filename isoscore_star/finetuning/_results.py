"""results.json and steps.csv: written so that a sweep that was killed goes on where it was."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from isoscore_star._errors import InvalidValueError
from isoscore_star.finetuning._settings import PENALTY, Cell, Settings
from isoscore_star.readers import FileContentError, SelectionError

STEP_COLUMNS = ("run", "step", "loss", "istar_loss", "isoscore_star", "lam", "lr")

SWEPT = "swept"
"""Stands among the settings for a value that each run has of its own."""


class Results:
    """A folder's results.

    Parameters
    ----------
    folder : Path
        See `prepare`.
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
        self._path, self._steps = folder / "results.json", folder / "steps.csv"
        if self._path.exists():
            self._read()

    def prepare(self) -> None:
        """Make the folder ready to be written to.

        Raises
        ------
        InvalidValueError
            If nothing can be written there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._drop_unfinished_steps()
            self.write()
        except OSError as error:
            raise InvalidValueError(
                f"output: cannot write to {self.folder}: {error.strerror or error}. Choose another folder"
            ) from error

    def find(self, cell: Cell, seed: int) -> dict[str, Any] | None:
        """Give the finished run of a cell and a seed."""
        return next((run for run in self.runs if run["seed"] == seed and cell_of(run) == cell), None)

    def find_twin(self, cell: Cell, seed: int) -> dict[str, Any] | None:
        """Give a finished run that differs by what plays no part, as by ζ with λ = 0."""
        return next(
            (run for run in self.runs if run["seed"] == seed and cell_of(run).effective == cell.effective), None
        )

    def add(self, run: dict[str, Any]) -> None:
        """Take in a finished run and write the file."""
        self.runs.append(run)
        self.write()

    def to_dict(self) -> dict[str, Any]:
        """Give what results.json holds."""
        return {"settings": self.settings, "versions": _versions(), "runs": self.runs}

    def write(self) -> None:
        """Write results.json at once: a kill leaves the old or the new one, never a part."""
        partial = self._path.with_suffix(".json.partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=2, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)

    @contextmanager
    def step_log(self) -> Iterator[Any]:
        """Open steps.csv to append rows of `STEP_COLUMNS`, as mappings; each is there at once."""
        new = not self._steps.exists()
        with self._steps.open("a", newline="", encoding="utf-8", buffering=1) as file:
            writer = csv.DictWriter(file, STEP_COLUMNS)
            if new:
                writer.writeheader()
            yield writer

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            before, self.runs = dict(found["settings"]), list(found["runs"])
            for run in self.runs:
                cell_of(run), run["seed"], run["name"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise FileContentError(
                f"{self._path}: cannot be read as the results of a fine-tuning ({error}). Choose another --output"
            ) from error
        differing = [
            f"{name} was {json.dumps(before.get(name))}, is now {json.dumps(self.settings.get(name))}"
            for name in dict.fromkeys([*before, *self.settings])
            if before.get(name) != self.settings.get(name)
        ]
        if differing and self.runs:
            raise SelectionError(
                f"output: {self.folder} holds runs of other settings: {'; '.join(differing)}. "
                "Choose another folder, or give the same settings"
            )

    def _drop_unfinished_steps(self) -> None:
        if not self._steps.exists():
            return
        names = {run["name"] for run in self.runs}
        partial = self._steps.with_suffix(".csv.partial")
        with (
            self._steps.open(newline="", encoding="utf-8") as old,
            partial.open("w", newline="", encoding="utf-8") as new,
        ):
            writer = csv.DictWriter(new, STEP_COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in csv.DictReader(old) if row.get("run") in names)
        partial.replace(self._steps)


def shared_settings(settings: Settings, base: Cell, swept: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Give the settings that all runs of a folder have in common.

    Parameters
    ----------
    settings : Settings
        All of them count.
    base : Cell
        Those that are not swept count, without the penalty's own: another λ is another run in the same folder.
    swept : mapping
        The sweep, by name.
    **more
        What else has to be the same.

    Returns
    -------
    dict
        For JSON.
    """
    cell = {name: SWEPT if name in swept else value for name, value in asdict(base).items() if name not in PENALTY}
    return {**asdict(settings), **cell, **more}


def cell_of(run: Mapping[str, Any]) -> Cell:
    """Give the cell that a run's record names."""
    return Cell(**{field.name: run[field.name] for field in fields(Cell)})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("isoscore-star", "torch", "transformers", "datasets", "scikit-learn", "scikit-dimension"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
