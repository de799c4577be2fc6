"""The demonstration's results as files: JSON, CSV and, with matplotlib installed, pictures."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from isoscore_star import Measurement
from isoscore_star.atomic_files import replacing, writing_to

if TYPE_CHECKING:
    from isoscore_star.demonstration import Demonstration

COLUMNS = (
    "layer", "count", "dim", "score", "unbiased_score", "standard_error", "effective_dimensions",
    "top_outlier_dimension", "top_outlier_share",
)  # fmt: skip


def prepare_folder(folder: Path) -> None:
    """Make the folder and make sure that files can be written to it, before any work is done.

    Parameters
    ----------
    folder : Path
        Made with its parents if missing.

    Raises
    ------
    InvalidValueError
        If that is impossible.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()


def write_files(found: Demonstration, folder: Path) -> list[Path]:
    """Write results.json, layers.csv and, with matplotlib installed, layers.png and layers.svg: all or none.

    Parameters
    ----------
    found : Demonstration
        The results.
    folder : Path
        Where to; made if missing.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InvalidValueError
        If they cannot be written; those that were there before stay as they are.
    """
    prepare_folder(folder)
    writers: dict[str, Callable[[Path], None]] = {
        "results.json": lambda path: _write_json(found, path),
        "layers.csv": lambda path: _write_csv(found, path),
    }
    if importlib.util.find_spec("matplotlib") is not None:
        from isoscore_star.demonstration._picture import KINDS, picture, write_picture

        figure = picture(found)
        for kind in KINDS:
            writers[f"layers.{kind}"] = lambda path, kind=kind: write_picture(figure, path, kind)  # type: ignore[misc]
    with writing_to(folder), ExitStack() as together:
        for name, write in writers.items():
            write(together.enter_context(replacing(folder / name)))
    return [folder / name for name in writers]


def _write_json(found: Demonstration, path: Path) -> None:
    path.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")


def _write_csv(found: Demonstration, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, layer in enumerate(found.layers):
            writer.writerow(_row(str(number), layer))
        writer.writerow(_row(f"union of 1 to {len(found.layers) - 1}", found.union))


def _row(name: str, m: Measurement) -> list[object]:
    top: tuple[object, object] = m.outlier_dimensions[0] if m.outlier_dimensions else ("", "")
    return [name, m.count, m.dim, m.score, m.unbiased_score, m.standard_error, m.effective_dimensions, *top]
