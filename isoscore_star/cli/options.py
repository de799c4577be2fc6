"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isoscore_star.readers import SUFFIXES, is_place

POINTS = f"{' '.join(SUFFIXES)}, a folder of such files, or a pattern in quotes ('shard_*.npy')"

RESULT_FILES = ("scan.json", "moments.safetensors", "results.json")
"""Of which one is in the folder of a scan or of a fine-tuning."""

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help=f"Points as rows: {POINTS}; several are one union.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_KEY",
        help="1 for points, 0 for padding: a file (folder, pattern), or an array beside the points.",
    ),
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
        help="Label for each point, such as its sentence: a file (folder, pattern), or an array or column beside "
        "the points; 'auto': the first of three axes; 'none': independent points.",
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


def is_result(path: Path) -> bool:
    """Return whether a folder is that of a scan or of a fine-tuning, or at least no folder of points."""
    return path.is_dir() and (any((path / name).exists() for name in RESULT_FILES) or not is_place(str(path)))


def folder(text: str | Path) -> Path:
    """Return the option's folder; an empty word, as from an unset variable, is not the current folder."""
    if not str(text).strip():
        raise typer.BadParameter(f"expected a folder; got {text!r}. The current one is '.'")
    return Path(text)
