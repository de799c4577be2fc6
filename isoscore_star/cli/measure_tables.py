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
    """Print a table: the union alone, or each layer a row and the union below them."""
    # File names are no markup.
    console = Console(markup=False, emoji=False, highlight=False)
    if layers:
        title = f"{union.dim:,} dimensions{f': {_columns(names)}' if names else ''}"
        table = Table("layer", *_rows(union, zeta, unbiased_first, names), title=title)
        for column in table.columns:
            column.no_wrap = "score" in str(column.header).lower()
        for label, found in [*layers, ("union", union)]:
            table.add_row(printable(label), *_rows(found, zeta, unbiased_first, names).values())
    else:
        table = Table(show_header=False)
        table.add_row("dimensions", f"{union.dim:,}")
        if names:
            table.add_row("columns", _columns(names))
        for row in _rows(union, zeta, unbiased_first, names).items():
            table.add_row(*row)
    console.print(table)
    warnings = [w for found in [*(layer for _, layer in layers), union] for w in found.warnings]
    for warning in dict.fromkeys(warnings):
        console.print(f"warning: {warning}", style="yellow")


def _rows(found: Measurement, zeta: float, unbiased_first: bool, names: tuple[str, ...]) -> dict[str, str]:
    unbiased = "not defined" if found.unbiased_score is None else f"{found.unbiased_score:.4f}"
    if found.standard_error is not None:
        unbiased += f" ± {found.standard_error:.4f}"
    scores = [
        ("IsoScore" if zeta == 0 else f"IsoScore* (zeta={zeta:g})", f"{found.score:.4f}"),
        ("unbiased score", unbiased),
    ]
    if unbiased_first:
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
