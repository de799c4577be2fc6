"""The demonstration's results as files: JSON, CSV and, with matplotlib installed, pictures."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

from isoscore_star import InvalidValueError, Measurement

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_files(found: Demonstration, folder: Path) -> list[Path]:
    """Write results.json, layers.csv and, with matplotlib installed, layers.png and layers.svg.

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
        If they cannot be written.
    """
    prepare_folder(folder)
    try:
        files = [_write_json(found, folder / "results.json"), _write_csv(found, folder / "layers.csv")]
        if importlib.util.find_spec("matplotlib") is not None:
            from isoscore_star.demonstration._picture import write_pictures

            files += write_pictures(found, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return files


def _write_json(found: Demonstration, path: Path) -> Path:
    path.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
    return path


def _write_csv(found: Demonstration, path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, layer in enumerate(found.layers):
            writer.writerow(_row(str(number), layer))
        writer.writerow(_row(f"union of 1 to {len(found.layers) - 1}", found.union))
    return path


def _row(name: str, m: Measurement) -> list[object]:
    top: tuple[object, object] = m.outlier_dimensions[0] if m.outlier_dimensions else ("", "")
    return [name, m.count, m.dim, m.score, m.unbiased_score, m.standard_error, m.effective_dimensions, *top]


def _unwritable(folder: Path, error: OSError) -> InvalidValueError:
    return InvalidValueError(f"output: cannot write to {folder}: {error.strerror or error}. Choose another folder")
