"""The tables of ``isoscore-star measure``."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from isoscore_star import Measurement
from isoscore_star.cli.printable import printable

_SHOWN_OUTLIERS = 5
_SHOWN_COLUMNS = 10


def show_measurements(
    union: Measurement, layers: list[tuple[str, Measurement]], zeta: float, unbiased_first: bool, names: tuple[str, ...]
) -> None:
    """Print a table of the union alone, or of a row for each layer and the union below them."""
    console = Console(markup=False, emoji=False, highlight=False)  # names of files are not markup
    if layers:
        title = f"{union.dim:,} dimensions{f': {_columns(names)}' if names else ''}"
        table = Table("layer", *_rows(union, zeta, unbiased_first, names), title=title)
        for column in table.columns:
            column.no_wrap = "score" in str(column.header).lower()
        for label, measurement in [*layers, ("union", union)]:
            table.add_row(printable(label), *_rows(measurement, zeta, unbiased_first, names).values())
    else:
        table = Table(show_header=False)
        table.add_row("dimensions", f"{union.dim:,}")
        if names:
            table.add_row("columns", _columns(names))
        for row in _rows(union, zeta, unbiased_first, names).items():
            table.add_row(*row)
    console.print(table)
    warnings = [w for measurement in [*(layer for _, layer in layers), union] for w in measurement.warnings]
    for warning in dict.fromkeys(warnings):
        console.print(f"warning: {warning}", style="yellow")


def _rows(measurement: Measurement, zeta: float, unbiased_first: bool, names: tuple[str, ...]) -> dict[str, str]:
    unbiased = "not defined" if measurement.unbiased_score is None else f"{measurement.unbiased_score:.4f}"
    if measurement.standard_error is not None:
        unbiased += f" ± {measurement.standard_error:.4f}"
    scores = [
        ("IsoScore" if zeta == 0 else f"IsoScore* (zeta={zeta:g})", f"{measurement.score:.4f}"),
        ("unbiased score", unbiased),
    ]
    if unbiased_first:
        scores.reverse()
    return {
        "points": f"{measurement.count:,}",
        **dict(scores),
        "effective dimensions": f"{measurement.effective_dimensions:.1f}",
        "outlier dimensions": _outliers(measurement, names),
    }


def _outliers(measurement: Measurement, names: tuple[str, ...]) -> str:
    shown = [
        f"{printable(names[index]) if len(names) == measurement.dim else index} ({fraction:.1%})"
        for index, fraction in measurement.outlier_dimensions[:_SHOWN_OUTLIERS]
    ]
    more = len(measurement.outlier_dimensions) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def _columns(names: tuple[str, ...]) -> str:
    """Return a list of the columns, of many the first three and the last."""
    shown = list(map(printable, names))
    return ", ".join(shown if len(shown) <= _SHOWN_COLUMNS else [*shown[:3], "...", shown[-1]])
