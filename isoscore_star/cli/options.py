"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isoscore_star.readers import SUFFIXES

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help=f"Points as rows: {' '.join(SUFFIXES)}; several are one union.",
        exists=True,
        dir_okay=False,
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(metavar="FILE_OR_KEY", help="1 for points, 0 for padding: a file, or an array beside the points."),
]
Key = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Array, or column of lists, to take: a name or a pattern; may be repeated."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Columns of a table that are dimensions: a name or a pattern ('emb_*'); may be repeated."
    ),
]
Groups = Annotated[
    str,
    typer.Option(
        metavar="FILE_OR_KEY",
        help="Label for each point, such as its sentence: a file, or an array or column beside the points; 'auto': the "
        "first of three axes; 'none': independent points.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_KEY",
        help="Measure each class by itself: a label for each point, such as its language, in a file, or an array or "
        "column beside the points; 'auto': the first of three axes.",
    ),
]
ByOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="With --by: the classes as a table, .csv or .parquet."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object; docs/tables.md lists its keys.")]


def folder(text: str | Path) -> Path:
    """Return the option's folder; an empty word, as from an unset variable, is not the current folder."""
    if not str(text).strip():
        raise typer.BadParameter(f"expected a folder; got {text!r}. The current one is '.'")
    return Path(text)
