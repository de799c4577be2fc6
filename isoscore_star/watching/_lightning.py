"""metrics.csv of Lightning's CSVLogger."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from isoscore_star.readers import FileContentError
from isoscore_star.watching._folders import files_within, newest
from isoscore_star.watching._runs import Curves, Watched, WatchedRun, left_out

METRICS = "metrics.csv"


class LightningLog:
    """Reader of the newest such file in a folder and the folders in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def fits(cls, folder: Path) -> bool:
        """Return whether there is one."""
        return bool(files_within(folder, METRICS))

    def read(self) -> Watched:
        """Read the file."""
        path = newest(files_within(self.folder, METRICS))
        curves, damaged = (Curves(), 0) if path is None else _curves(path)
        name = self.folder.resolve().name if path is None else path.resolve().parent.name
        run = WatchedRun(name, curves.series(), curves.step)
        return Watched(str(self.folder), "lightning", (run,), notes=tuple(left_out(damaged, METRICS)))


def _curves(path: Path) -> tuple[Curves, int]:
    """Return the curves, and how many lines were left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        whole, _, _ = text.rpartition("\n")  # the last line may be about to be written
        rows = list(csv.DictReader(io.StringIO(whole, newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FileContentError(path, f"cannot be read as Lightning's metrics ({error})") from error
    except FileNotFoundError:
        rows = []
    curves, damaged = Curves(), 0
    for number, row in enumerate(rows):
        step = _float(row.get("step"))
        if (row.get("step") or "").strip() and not (step is not None and math.isfinite(step)):
            damaged += 1
            continue
        for name, cell in row.items():
            value = _float(cell)
            if name not in (None, "step", "epoch") and value is not None:
                curves.add(name, number if step is None else int(step), value)
    return curves, damaged


def _float(cell: object) -> float | None:
    try:
        return float(cell) if isinstance(cell, str) and cell.strip() else None
    except ValueError:
        return None
