"""The commands of ``isoscore-star``."""

from __future__ import annotations

from typing import Annotated

import typer

from isoscore_star import __version__
from isoscore_star.cli.compare import compare
from isoscore_star.cli.demo import demo
from isoscore_star.cli.errors import Commands
from isoscore_star.cli.explain import explain
from isoscore_star.cli.finetune import finetune
from isoscore_star.cli.measure import measure
from isoscore_star.cli.merge import merge
from isoscore_star.cli.report import report
from isoscore_star.cli.scan import scan
from isoscore_star.cli.transform import transform
from isoscore_star.cli.validate import validate
from isoscore_star.cli.watch import watch

app = typer.Typer(cls=Commands, add_completion=False, pretty_exceptions_enable=False)
app.command()(measure)
app.command()(merge)
app.command()(compare)
app.command()(explain)
app.command()(demo)
app.command()(finetune)
app.command()(report)
app.command()(scan)
app.command()(transform)
app.command()(validate)
app.command()(watch)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def isoscore_star(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Measure the isotropy of embeddings, and see what I-STAR does to it."""
