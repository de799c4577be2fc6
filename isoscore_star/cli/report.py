"""``isoscore-star report``: one page that says what state a space is in, why, and what can be done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from isoscore_star import reporting
from isoscore_star.atomic_files import replacing, writing_to
from isoscore_star.cli.errors import OptionError
from isoscore_star.cli.options import POINTS, Columns, Groups, Key, Mask
from isoscore_star.cli.printable import printable
from isoscore_star.cli.report_inputs import compared, read

_SUFFIXES = (".html", ".htm")
_KINDS = {"svg": {"Date": None}, "png": {"Software": None}}  # without dates, equal results are equal files


def report(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="The folder of a scan or of isoscore-star finetune, or points as rows: "
            f"{POINTS}; of several each is a layer.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="Where the page goes.")] = Path(
        "report.html"
    ),
    against: Annotated[
        Path | None,
        typer.Option(metavar="INPUT", help="What to compare with: INPUT is before, this is after."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each figure there, as SVG and as PNG.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What the page calls it; by default the name of INPUT.")] = None,
    mask: Mask = None,
    groups: Groups = "auto",
    key: Key = None,
    columns: Columns = None,
    by_layer: Annotated[bool, typer.Option("--by-layer", help="The first of 3 or more axes is the layer.")] = False,
) -> None:
    """Write a report as one HTML page, which needs no network (docs/report.md)."""
    require_page(output)
    options: dict[str, Any] = {"mask": mask, "groups": groups, "key": key, "columns": columns, "by_layer": by_layer}
    thing = read(inputs, **options) if against is None else compared(inputs, against, **options)
    write_page(thing, output, title or _name(thing, inputs, against))
    written = [output]
    if figures is not None:
        written += _write_figures(thing, figures)
    for path in written:
        print(printable(str(path)))


def require_page(output: Path) -> None:
    """Require a name for a page, before anything is read, and what draws it."""
    if output.suffix.lower() not in _SUFFIXES or output.is_dir():
        raise OptionError("output", f"expected a file that ends in .html; got {output}")


def write_page(thing: Any, output: Path, title: str | None = None) -> None:
    """Write the page of a scan, a measurement, a comparison or runs, whole or not at all."""
    page = reporting.to_html(thing, title)
    with writing_to(output.parent), replacing(output) as partial:
        partial.write_text(page, encoding="utf-8")


def _name(thing: Any, inputs: list[Path], against: Path | None) -> str | None:
    """Name the inputs; a scan knows better what it is of."""
    if hasattr(thing, "model"):
        return None
    given = inputs if against is None else [*inputs, against]
    names = [one.name or str(one) for one in given]
    if len(set(names)) < len(names):
        names = list(map(str, given))
    return " and ".join(names) if len(names) <= 2 else f"{len(names)} files"


def _write_figures(thing: Any, folder: Path) -> list[Path]:
    """Write each figure as SVG and PNG."""
    drawn = reporting.figures(thing)
    from matplotlib import rc_context

    written = []
    with writing_to(folder), rc_context({"svg.hashsalt": "isoscore-star"}):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            for kind, metadata in _KINDS.items():
                path = folder / f"{name}.{kind}"
                with replacing(path) as partial:
                    figure.savefig(partial, format=kind, dpi=150, metadata=metadata)
                written.append(path)
    return written
