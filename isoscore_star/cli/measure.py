"""``isoscore-star measure``: how evenly the points in files use their dimensions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from isoscore_star.cli.printable import note, printable
from isoscore_star.core import checks, value_checks
from isoscore_star.core.errors import InvalidValueError, IsoScoreError
from isoscore_star.measurement import Measurement
from isoscore_star.readers import SUFFIXES, Cloud, StreamedCloud, open_array, open_clouds

# The sample behind the standard error of a large file is random; the same file is to give the same answer.
_SEED = 0
_SHOWN_OUTLIERS = 5
_SHOWN_COLUMNS = 10

_EXISTING = {"exists": True, "dir_okay": False}
_Layer = tuple[str, Measurement]


class Estimator(str, Enum):
    """Which score comes first."""

    shrinkage = "shrinkage"
    unbiased = "unbiased"


def measure(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help=f"Points as rows: {' '.join(SUFFIXES)}; several are one union.", **_EXISTING
        ),
    ],
    zeta: Annotated[float, typer.Option(help="Share of the shrinkage covariance, from 0 to 1.")] = 0.0,
    shrinkage_cov: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[:KEY]", help="Its (d, d) matrix, of many more points; KEY if the file holds several arrays."
        ),
    ] = None,
    estimator: Annotated[Estimator, typer.Option(help="Which score comes first.")] = Estimator.shrinkage,
    mask: Annotated[
        str | None,
        typer.Option(metavar="FILE_OR_KEY", help="1 for points, 0 for padding: a file, or an array beside the points."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Array, or column of lists, to take: a name or a pattern; may be repeated."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Columns of a table that are dimensions: a name or a pattern ('emb_*'); may be repeated.",
        ),
    ] = None,
    by_layer: Annotated[
        bool,
        typer.Option("--by-layer", help="Also measure each layer: first of 3 or more axes, or file, or key."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how evenly the points in files, of any size, use their dimensions (IsoScore*)."""
    zeta = _checked_zeta(zeta, shrinkage_cov, estimator)
    clouds = open_clouds(files, key or (), mask, by_layer=by_layer, columns=columns or ())
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    # Of several tables the first one's names serve for all.
    names = next((cloud.source.columns for cloud in clouds if cloud.source.columns), ())
    dim = int(clouds[0].source.shape[-1] or 0)
    matrix = None if shrinkage_cov is None else _read_matrix(shrinkage_cov, dim)
    union, layers = _measure(clouds, dim, by_layer, estimator, {"shrinkage_cov": matrix, "zeta": zeta})
    if as_json:
        found: dict[str, Any] = {"files": list(map(str, files)), "zeta": zeta, "estimator": estimator.value}
        if names:
            found["columns"] = list(names)
        found["union"] = _with_columns(union, names)
        if by_layer:
            found["layers"] = [{"layer": label} | _with_columns(layer, names) for label, layer in layers]
        print(json.dumps(found, indent=2))
    else:
        _show(union, layers, zeta, estimator, names)


def _checked_zeta(zeta: float, shrinkage_cov: str | None, estimator: Estimator) -> float:
    try:
        if estimator is Estimator.unbiased and shrinkage_cov is None and checks.number("zeta", zeta, 0, 1) > 0:
            note("the unbiased score needs no shrinkage, so zeta is not used")
            return 0.0
        return float(checks.zeta(zeta, shrinkage_cov))
    except InvalidValueError as error:
        raise typer.BadParameter(str(error)) from error


def _read_matrix(name: str, dim: int) -> NDArray[np.float64]:
    source = open_array(*_file_and_key(name))
    matrix = source.whole()
    try:
        return value_checks.shrinkage_target(matrix, dim)
    except IsoScoreError as error:
        raise type(error)(name, "; ".join([str(error), *source.notes])) from error


def _file_and_key(name: str) -> tuple[str, str | None]:
    file, _, key = name.rpartition(":")
    if Path(name).exists() or not Path(file).suffix:
        return name, None
    return file, key


def _measure(
    clouds: list[Cloud], dim: int, by_layer: bool, estimator: Estimator, shrinkage: dict[str, Any]
) -> tuple[Measurement, list[_Layer]]:
    """Measure the union, and each cloud on the way if asked to."""
    rng = np.random.default_rng(_SEED)
    union, layers = StreamedCloud(dim, rng), []
    with _progress(clouds) as advance:
        for cloud in clouds:
            mask = None if cloud.mask is None else cloud.mask.reshape(-1)
            if by_layer:
                layer = StreamedCloud(dim, rng)
                layer.take(cloud.source, mask, advance)
                layers.append((cloud.label, _measurement(layer, cloud.source.name, estimator, shrinkage)))
                union.merge(layer)
            else:
                union.take(cloud.source, mask, advance)
    name = clouds[0].source.name if len(clouds) == 1 else "union"
    return _measurement(union, name, estimator, shrinkage), layers


def _measurement(cloud: StreamedCloud, name: str, estimator: Estimator, shrinkage: dict[str, Any]) -> Measurement:
    try:
        if estimator is Estimator.unbiased:
            cloud.moments.isoscore_unbiased()  # says why there is none; a Measurement only leaves it out
        return cloud.measurement(**shrinkage)
    except IsoScoreError as error:
        raise error.about(name) from error


@contextmanager
def _progress(clouds: list[Cloud]) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing in a pipe."""
    from rich.console import Console
    from rich.progress import Progress

    counts = [cloud.rows for cloud in clouds]
    total = None if None in counts else sum(filter(None, counts))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda count: bar.advance(task, count)


def _with_columns(found: Measurement, names: tuple[str, ...]) -> dict[str, Any]:
    """Return a measurement as plain numbers, its outlier dimensions with their columns."""
    plain = found.to_dict()
    if len(names) == found.dim:
        for outlier in plain["outlier_dimensions"]:
            outlier["column"] = names[outlier["dimension"]]
    return plain


def _show(union: Measurement, layers: list[_Layer], zeta: float, estimator: Estimator, names: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    # File names are no markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if layers:
        title = f"{union.dim:,} dimensions{f': {_columns(names)}' if names else ''}"
        table = Table("layer", *_rows(union, zeta, estimator, names), title=title)
        for column in table.columns:
            column.no_wrap = "score" in str(column.header).lower()
        for label, found in [*layers, ("union", union)]:
            table.add_row(printable(label), *_rows(found, zeta, estimator, names).values())
    else:
        table = Table(show_header=False)
        table.add_row("dimensions", f"{union.dim:,}")
        if names:
            table.add_row("columns", _columns(names))
        for row in _rows(union, zeta, estimator, names).items():
            table.add_row(*row)
    console.print(table)
    warnings = [w for found in [*(layer for _, layer in layers), union] for w in found.warnings]
    for warning in dict.fromkeys(warnings):
        console.print(f"warning: {warning}", style="yellow")


def _rows(found: Measurement, zeta: float, estimator: Estimator, names: tuple[str, ...]) -> dict[str, str]:
    unbiased = "not defined" if found.unbiased_score is None else f"{found.unbiased_score:.4f}"
    if found.standard_error is not None:
        unbiased += f" ± {found.standard_error:.4f}"
    scores = [
        ("IsoScore" if zeta == 0 else f"IsoScore* (zeta={zeta:g})", f"{found.score:.4f}"),
        ("unbiased score", unbiased),
    ]
    if estimator is Estimator.unbiased:
        scores.reverse()
    return {
        "points": f"{found.count:,}",
        **dict(scores),
        "effective dimensions": f"{found.effective_dimensions:.1f}",
        "outlier dimensions": _outliers(found, names),
    }


def _outliers(found: Measurement, names: tuple[str, ...]) -> str:
    shown = [
        f"{printable(names[index]) if len(names) == found.dim else index} ({share:.1%})"
        for index, share in found.outlier_dimensions[:_SHOWN_OUTLIERS]
    ]
    more = len(found.outlier_dimensions) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def _columns(names: tuple[str, ...]) -> str:
    """Name the columns that were taken, the first and the last of many."""
    shown = list(map(printable, names if len(names) <= _SHOWN_COLUMNS else (*names[:3], names[-1])))
    return ", ".join(shown) if len(names) <= _SHOWN_COLUMNS else f"{', '.join(shown[:-1])}, ..., {shown[-1]}"
