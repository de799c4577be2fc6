"""metrics.csv of Lightning's CSVLogger."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from isoscore_star.readers import FileContentError
from isoscore_star.watching._folders import files_within, newest
from isoscore_star.watching._runs import Curves, Watched, WatchedRun

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
        curves = Curves() if path is None else _curves(path)
        name = self.folder.resolve().name if path is None else path.resolve().parent.name
        return Watched(str(self.folder), "lightning", (WatchedRun(name, curves.series(), curves.step),))


def _curves(path: Path) -> Curves:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        whole, _, _ = text.rpartition("\n")  # the last line may be about to be written
        rows = list(csv.DictReader(io.StringIO(whole, newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FileContentError(path, f"cannot be read as Lightning's metrics ({error})") from error
    except FileNotFoundError:
        rows = []
    curves = Curves()
    for number, row in enumerate(rows):
        step = _float(row.get("step"))
        for name, cell in row.items():
            value = _float(cell)
            if name not in (None, "step", "epoch") and value is not None:
                curves.add(name, number if step is None else int(step), value)
    return curves


def _float(cell: object) -> float | None:
    try:
        return float(cell) if isinstance(cell, str) and cell.strip() else None
    except ValueError:
        return None
