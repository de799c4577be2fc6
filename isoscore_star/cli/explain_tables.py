"""The tables of ``isoscore-star explain``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from isoscore_star import Explanation
from isoscore_star.cli.printable import printable
from isoscore_star.explanation import Measure

_LEAST = 0.01
"""Share from which on a direction or a coordinate is listed."""


def show_explanation(
    explanation: Explanation, others: Sequence[Measure], warnings: Sequence[str], names: Sequence[str] = ()
) -> None:
    """Print the verdict in words, then what it rests on."""
    console = Console(markup=False, emoji=False, highlight=False)  # names of files are not markup
    for sentence in explanation.sentences:
        console.print(printable(sentence))
    for warning in warnings:
        console.print(f"warning: {printable(warning)}", style="yellow")
    console.print(_shares(explanation, names))
    console.print(_what_ifs(explanation))
    measures = [*explanation.measures, *others]
    console.print(_measures(measures))
    for text in dict.fromkeys(measure.note for measure in measures if measure.note):
        named = ", ".join(measure.name for measure in measures if measure.note == text)
        console.print(f"{named}: {printable(text)}", style="dim", soft_wrap=True)  # a command in it can be copied


def _shares(explanation: Explanation, names: Sequence[str]) -> Table:
    """Return what the squared covariance is made of; each block of rows adds up to all of it."""
    table = Table("what pulls the score down", title=f"{explanation.count:,} points, {explanation.dim:,} dimensions")
    has_halves = explanation.directions[0].halves_share is not None
    for column in ("of the variance", "of 1/PR", *(("of halves' 1/PR",) if has_halves else ())):
        table.add_column(column, justify="right")

    def add(name: str, *shares: float | None) -> None:
        table.add_row(name, *("-" if share is None else f"{share:.1%}" for share in shares[: 2 + has_halves]))

    listed = [one for one in explanation.directions if one.index is not None and one.share >= _LEAST]
    for direction in listed:
        name = f"direction {(direction.index or 0) + 1}"
        add(name, direction.variance_share, direction.share, direction.halves_share)
    rest = [one for one in explanation.directions if one not in listed]
    if rest:
        of_halves = [one.halves_share for one in rest if one.halves_share is not None]
        sums = sum(one.variance_share for one in rest), sum(one.share for one in rest)
        add("all other directions", *sums, sum(of_halves) if has_halves else None)
    table.add_section()
    for one in explanation.coordinates:
        name = "all other coordinates"
        if one.dimension is not None:
            named = len(names) == explanation.dim
            name = f"coordinate {printable(names[one.dimension]) if named else one.dimension}"
        add(name, one.variance_share, one.share, one.halves_share)
    rotated = [one.halves_share for one in explanation.coordinates if one.halves_share is not None]
    add("off the diagonal", None, 1 - explanation.diagonal_share, 1 - sum(rotated) if rotated else None)
    for between in explanation.between:
        table.add_section()
        within, cross, squares = between.shares
        add(f"within {between.group_count:,} {between.name}", 1 - between.variance_share, within, None)
        add(f"between {between.name}", between.variance_share, squares, None)
        add("both", None, cross, None)
    if explanation.parts:
        table.add_section()
        for part in explanation.parts:
            if 2 * part.count < explanation.count:  # what goes with most of the points says nothing
                add(f"{part.count:,} {part.name}", part.variance_share, part.share, None)
    return table


def _what_ifs(explanation: Explanation) -> Table:
    table = Table("what if", title="The same points after a change")
    has_halves = explanation.unbiased_score is not None and explanation.directions[0].halves_share is not None
    for column in ("IsoScore", *(("score of halves",) if has_halves else ())):
        table.add_column(column, justify="right")

    def add(name: str, score: float | None, unbiased: float | None) -> None:
        table.add_row(name, *("-" if one is None else f"{one:.4f}" for one in (score, unbiased)[: 1 + has_halves]))

    add("as they are", explanation.score, explanation.unbiased_score)
    for what_if in explanation.what_ifs:
        add(what_if.name, what_if.score, what_if.unbiased_score)
    for part in (one for one in explanation.parts if 2 * one.count < explanation.count):
        add(f"without the {part.name}", part.score_without, part.unbiased_without)
    return table


def _measures(measures: Sequence[Measure]) -> Table:
    table = Table("measure", title="Other measures (--json has the source of each)")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("of many isotropic points", justify="right")
    for measure in measures:
        value = "-" if measure.value is None else f"{measure.value:.4g}"
        table.add_row(measure.name, value, measure.isotropic)
    return table
