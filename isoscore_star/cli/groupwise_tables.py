"""The tables of ``isoscore-star measure --by``."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from isoscore_star import GroupedMeasurement
from isoscore_star.cli.printable import printable

_SHOWN = 10
"""Classes of the lowest scores, and of the highest ones, that are listed."""


def show_classes(measured: GroupedMeasurement, by: str) -> None:
    """Print the whole, how the scores of the classes spread, the lowest and the highest ones, and warnings."""
    console = Console(markup=False, emoji=False, highlight=False)  # names of files and labels are not markup
    table = Table(show_header=False)
    for row in _summary(measured, by).items():
        table.add_row(*row)
    console.print(table)
    ranked = measured.ranked
    few = len(ranked) <= 2 * _SHOWN
    for title, numbers in (("", ranked),) if few else (("lowest", ranked[:_SHOWN]), ("highest", ranked[-_SHOWN:])):
        if len(numbers):
            console.print(_classes(measured, title, numbers))
    for warning in measured.warnings:
        console.print(f"warning: {printable(warning)}", style="yellow")


def _summary(measured: GroupedMeasurement, by: str) -> dict[str, str]:
    whole, between = measured.whole, measured.between
    counts = measured.counts
    sizes = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    rows = {
        "classes": f"{len(measured):,} (by {printable(by)})",
        "points": f"{whole.count:,}, {sizes} of a class",
        "dimensions": f"{measured.dim:,}",
        "score of the whole": _figure(whole.unbiased_score, whole.standard_error, whole.score),
    }
    scores = measured.unbiased_scores if measured.unbiased_scores.count() else measured.scores
    if scores.count():
        quantiles = np.quantile(scores.compressed(), [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
        kind = "unbiased scores" if measured.unbiased_scores.count() else "IsoScores"
        rows[f"{kind} of classes"] = " ".join(f"{one:.3f}" for one in quantiles)
        rows[""] = "(least, 5 %, 25 %, median, 75 %, 95 %, largest)"
    if between is not None:
        chance = (len(measured) - 1) / (whole.count - 1)
        rows["variance between"] = f"{between.variance_share:.1%} ({chance:.1%} if all classes were alike)"
        rows["of 1/PR"] = "{:.1%} within, {:.1%} of both, {:.1%} between".format(*between.shares)
        within = between.score_within
        rows["IsoScore within"] = "not defined: no class has any variance" if within is None else f"{within:.4f}"
    return rows


def _classes(measured: GroupedMeasurement, title: str, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Table:
    table = Table("class", "points", "IsoScore", "unbiased score", title=title or None)
    for number in numbers:
        one = measured.at(number)
        unbiased = _figure(one.unbiased_score, one.standard_error, None)
        table.add_row(printable(str(one.label)), f"{one.count:,}", f"{one.score:.4f}", unbiased)
    return table


def _figure(unbiased: float | None, error: float | None, score: float | None) -> str:
    if unbiased is None:
        return "not defined" if score is None else f"IsoScore {score:.4f}"
    return f"{unbiased:.4f}" + ("" if error is None else f" ± {error:.4f}")
