"""``isoscore-star compare-measures``: every measure of isotropy of the points in a file, side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from isoscore_star._errors import IsoScoreError
from isoscore_star.diagnostics import Comparison, compare_measures
from isoscore_star.readers import SUFFIXES, open_clouds


def compare_measures_of_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=f"Points as rows: {' '.join(SUFFIXES)}", exists=True, dir_okay=False)
    ],
    mask: Annotated[
        str | None,
        typer.Option(metavar="FILE_OR_KEY", help="1 for points, 0 for padding: a file, or an array beside the points."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Array, or column of lists, to take: a name or a pattern; several are one union."
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Columns of a table that are dimensions: a name or a pattern ('emb_*')."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the isotropy of the points in a file in every known way (the file has to fit into memory)."""
    clouds = open_clouds([file], key or (), mask, columns=columns or ())
    for note in dict.fromkeys(f"{cloud.source.name}: {note}" for cloud in clouds for note in cloud.source.notes):
        print(f"note: {note}", file=sys.stderr)
    points = [cloud.source.whole() for cloud in clouds]
    name = clouds[0].source.name if len(clouds) == 1 else str(file)
    try:
        found = compare_measures(points, None if mask is None else [cloud.mask for cloud in clouds])
    except IsoScoreError as error:
        raise type(error)(f"{name}: {str(error).removeprefix('X: ')}") from error
    if as_json:
        print(json.dumps({"file": str(file)} | found.to_dict(), indent=2))
    else:
        _show(found)


def _show(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(title=f"{found.count:,} points, {found.dim:,} dimensions")
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("if isotropic", justify="right")
    table.add_column("note")
    for row in found.rows:
        table.add_row(row.name, "-" if row.value is None else f"{row.value:.4g}", row.isotropic, row.note)
    console.print(table)
