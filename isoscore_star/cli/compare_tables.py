"""The table of ``isoscore-star compare``, below what it says in words."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from isoscore_star import ComparedLayer, Comparison
from isoscore_star.cli.printable import printable


def show_comparison(comparison: Comparison) -> None:
    """Print the sentences, a row for each layer, and the warnings."""
    console = Console(markup=False, emoji=False, highlight=False)  # names of files are not markup
    console.print(f"A: {printable(comparison.a)}")
    console.print(f"B: {printable(comparison.b)}")
    console.print(printable(str(comparison)))
    several = len(comparison.rows) > 1
    table = Table(*(["layer"] if several else []), "score A", "score B", "B - A (95 %)", "differs", "CKA", "angle")
    for column in table.columns:
        column.no_wrap = str(column.header).startswith("score")
    for row in comparison.rows:
        table.add_row(*([printable(row.name)] if several else []), *_cells(row))
    console.print(table)
    for warning in comparison.warnings:
        console.print(f"warning: {printable(warning)}", style="yellow")


def _cells(row: ComparedLayer) -> list[str]:
    scores = [one.score if one.unbiased_score is None else one.unbiased_score for one in (row.a, row.b)]
    difference = f"{row.difference:+.4f}"
    if row.interval is not None:
        low, high = row.interval
        digits = 4 if high - low > 1e-4 or not high - low else 7
        difference = f"{row.difference:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
    differs = "not known" if row.differs is None else "yes" if row.differs else "not clearly"
    cka = "-" if row.cka is None else f"{row.cka:.3f}" if row.cka < 0.9995 else f"{row.cka:.6f}"
    angle = f"{row.angles[0]:.1f}° of {len(row.angles)}" if row.angles else "-"
    return [f"{scores[0]:.4f}", f"{scores[1]:.4f}", difference, differs, cka, angle]
