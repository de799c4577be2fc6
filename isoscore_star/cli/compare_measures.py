"""``isoscore-star compare-measures``: every measure of isotropy of the points in a file, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from isoscore_star import IsoScoreError
from isoscore_star.cli.options import AsJson, Columns, Key, Mask
from isoscore_star.cli.printable import note
from isoscore_star.diagnostics import Comparison, compare_measures
from isoscore_star.readers import SUFFIXES, Cloud, open_clouds, require_memory

_COPIES = 5
"""Copies of all points, in float64, that the measure with the most memory needs beside the points themselves."""


def compare_measures_of_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=f"Points as rows: {' '.join(SUFFIXES)}", exists=True, dir_okay=False)
    ],
    mask: Mask = None,
    key: Key = None,
    columns: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Measure the isotropy of the points in a file in every known way (the file has to fit into memory)."""
    clouds = open_clouds([file], key or (), mask, columns=columns or ())
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    name = clouds[0].source.name if len(clouds) == 1 else str(file)
    points = _read(clouds, name)
    masks = None if mask is None else [None if cloud.mask is None else cloud.mask.reshape(-1) for cloud in clouds]
    try:
        comparison = compare_measures(points, masks)
    except IsoScoreError as error:
        raise error.about(name) from error
    if as_json:
        print(json.dumps({"file": str(file)} | comparison.to_dict(), indent=2))
    else:
        _show(comparison)


def _read(clouds: list[Cloud], name: str) -> list[NDArray[Any]]:
    """Read the points of all clouds; raise as soon as memory cannot hold them and the measures' copies."""
    dim = int(clouds[0].source.shape[-1] or 0)
    points, count = [], sum(cloud.rows or 0 for cloud in clouds) * dim
    _require_memory(name, (1 + _COPIES) * count)
    count = 0
    for cloud in clouds:
        blocks = []
        for block in cloud.source.blocks():
            count += block.size
            _require_memory(name, _COPIES * count)
            blocks.append(np.array(block))
        points.append(np.concatenate(blocks) if blocks else np.empty((0, dim)))
    return points


def _require_memory(name: str, values: int) -> None:
    advice = ". The command measure takes files of any size; compare a part of the points"
    require_memory(name, 8 * values, "comparing measures of all these points", advice)


def _show(comparison: Comparison) -> None:
    table = Table(title=f"{comparison.count:,} points, {comparison.dim:,} dimensions")
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("if isotropic", justify="right")
    table.add_column("note")
    for row in comparison.rows:
        table.add_row(row.name, "-" if row.value is None else f"{row.value:.4g}", row.isotropic, row.note)
    Console(markup=False, emoji=False, highlight=False).print(table)
