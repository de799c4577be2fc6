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
    """Make a folder and its parents, and raise InvalidValueError if no file can be written to it."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()


def write_files(results: Demonstration, folder: Path) -> list[Path]:
    """Write results.json, layers.csv and, with matplotlib installed, layers.png and layers.svg: all or none.

    Parameters
    ----------
    results : Demonstration
        Result of `demonstrate`.
    folder : Path
        Made if missing.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InvalidValueError
        If they cannot be written; existing files stay unchanged then.
    """
    prepare_folder(folder)
    content = json.dumps(results.to_dict(), indent=2) + "\n"
    writers: dict[str, Callable[[Path], object]] = {
        "results.json": lambda path: path.write_text(content, encoding="utf-8"),
        "layers.csv": lambda path: _write_csv(results, path),
    }
    if importlib.util.find_spec("matplotlib") is not None:
        from isoscore_star.demonstration._picture import KINDS, picture, write_picture

        figure = picture(results)
        for kind in KINDS:
            writers[f"layers.{kind}"] = lambda path, kind=kind: write_picture(figure, path, kind)  # type: ignore[misc]
    with writing_to(folder), ExitStack() as together:
        for name, write in writers.items():
            write(together.enter_context(replacing(folder / name)))
    return [folder / name for name in writers]


def _write_csv(results: Demonstration, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, layer in enumerate(results.layers):
            writer.writerow(_row(str(number), layer))
        writer.writerow(_row(f"union of 1 to {len(results.layers) - 1}", results.union))


def _row(name: str, m: Measurement) -> list[object]:
    top: tuple[object, object] = m.outlier_dimensions[0] if m.outlier_dimensions else ("", "")
    return [name, m.count, m.dim, m.score, m.unbiased_score, m.standard_error, m.effective_dimensions, *top]
