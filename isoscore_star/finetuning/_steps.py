"""steps.csv: a row for every step of every run, written while the run goes on."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isoscore_star.atomic_files import replacing, sync, writing_to
from isoscore_star.readers import FileContentError

STEP_COLUMNS = ("run", "step", "loss", "istar_penalty", "isoscore_star", "lam", "lr")


class Steps:
    """The file steps.csv."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, step: Mapping[str, Any]) -> None:
        """Append a row of `STEP_COLUMNS`, or raise InvalidValueError if it cannot be written."""
        with writing_to(self._path.parent), self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, STEP_COLUMNS).writerow(step)

    def keep(self, runs: Collection[str]) -> None:
        """Drop the rows of all other runs, which did not finish, and rows that were cut off."""
        kept = []
        if self._path.exists():
            with reading_results(self._path), self._path.open(newline="", encoding="utf-8") as file:
                # A row that was cut off may end in another run's name.
                kept = [row for row in csv.DictReader(file) if row.get("run") in runs and None not in row.values()]
        with replacing(self._path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, STEP_COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def sync(self) -> None:
        """Write the file's buffered content to the disk."""
        if self._path.exists():
            sync(self._path)


@contextmanager
def reading_results(path: Path) -> Iterator[None]:
    """Raise FileContentError where a file does not contain the results of a fine-tuning."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error, OSError) as error:
        raise FileContentError(
            path, f"cannot be read as the results of a fine-tuning ({error}). Choose another --output"
        ) from error
