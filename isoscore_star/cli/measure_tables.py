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
        title = f"{union.dim:,} dimensions{f': {_columns(names)}' if names else ''}, {_groups(union)}"
        table = Table("layer", *_rows(union, zeta, unbiased_first, names, short=True), title=title)
        for column in table.columns:
            column.no_wrap = "score" in str(column.header).lower()
        for label, measurement in [*layers, ("union", union)]:
            table.add_row(printable(label), *_rows(measurement, zeta, unbiased_first, names, short=True).values())
    else:
        table = Table(show_header=False)
        table.add_row("dimensions", f"{union.dim:,}")
        if names:
            table.add_row("columns", _columns(names))
        table.add_row("groups", _groups(union))
        for row in _rows(union, zeta, unbiased_first, names).items():
            table.add_row(*row)
    console.print(table)
    warnings = [w for measurement in [*(layer for _, layer in layers), union] for w in measurement.warnings]
    for warning in dict.fromkeys(warnings):
        console.print(f"warning: {printable(warning)}", style="yellow")


def _groups(measurement: Measurement) -> str:
    if measurement.group_count is None:
        return measurement.groups
    return f"{measurement.group_count:,} groups ({measurement.groups})"


def _rows(
    measurement: Measurement, zeta: float, unbiased_first: bool, names: tuple[str, ...], *, short: bool = False
) -> dict[str, str]:
    has_groups = measurement.group_count is not None
    scores = [
        ("IsoScore" if zeta == 0 else f"IsoScore* (zeta={zeta:g})", f"{measurement.score:.4f}"),
        ("score of halves" if has_groups else "unbiased score", _unbiased(measurement, short)),
    ]
    if unbiased_first:
        scores.reverse()
    if has_groups and not short:
        scores.append(("if independent", _number(measurement.independent_score, ".4f")))
    if has_groups:
        scores.append(("design effect", _number(measurement.design_effect, ".1f")))
    return {
        "points": f"{measurement.count:,}",
        **dict(scores),
        "effective dimensions": f"{measurement.effective_dimensions:.1f}",
        "outlier dimensions": _outliers(measurement, names),
    }


def _unbiased(measurement: Measurement, short: bool) -> str:
    text = _number(measurement.unbiased_score, ".4f")
    if measurement.standard_error is None or measurement.interval is None:
        return text
    if short or measurement.group_count is None:
        return f"{text} ± {measurement.standard_error:.4f}"
    low, high = measurement.interval
    return f"{text} (95 %: {low:.4f} to {high:.4f})"


def _number(value: float | None, form: str) -> str:
    return "not defined" if value is None else format(value, form)


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
