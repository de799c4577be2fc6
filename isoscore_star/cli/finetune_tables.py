"""The tables at the end of ``isoscore-star finetune``: means over seeds, ± standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import accumulate
from statistics import fmean, stdev
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from isoscore_star.cli.printable import printable
from isoscore_star.finetuning import Cell, cell_of

_PIPE_WIDTH = 200  # characters a line without a terminal
_MARGIN, _BETWEEN = 2, 3  # blanks beside a table, and between two of its columns

Run = dict[str, Any]


def show_results(runs: Sequence[Run]) -> None:
    """Print two tables: each setting's metric, isotropy and intrinsic dimension, and its isotropy by layer."""
    groups: dict[Cell, list[Run]] = {}
    for run in runs:
        groups.setdefault(cell_of(run), []).append(run)
    varying = [
        field.name
        for field in fields(Cell)
        if field.name == "lam" or len({getattr(cell, field.name) for cell in groups}) > 1
    ]
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=_PIPE_WIDTH)
    for table in (*_overall(groups, varying, console.width), *_by_layer(groups, varying, console.width)):
        console.print(table)
    console.print(
        "Held-out data. Union: all layers but layer 0, the embedding layer, as in the paper. Unbiased: without the "
        "bias of a small sample. Spread: standard deviation over seeds.",
        soft_wrap=True,
    )
    for note in dict.fromkeys(note for run in runs for note in run["notes"]):
        console.print(printable(note), soft_wrap=True)


def _overall(groups: dict[Cell, list[Run]], varying: Sequence[str], width: int) -> Iterator[Table]:
    """Return a table with a row for each setting or, where that is too wide, tables with a column for each."""
    metric = next(iter(groups.values()))[0]["metric"]["name"]
    measured: dict[str, Callable[[Run], float | None]] = {
        metric: lambda run: run["metric"]["value"],
        "IsoScore* (union)": lambda run: run["isoscore_star"],
        "unbiased": lambda run: run["isoscore_star_unbiased"],
        "intrinsic dimension": lambda run: run["intrinsic_dimension"],
        "s/step": lambda run: run["seconds_per_step"],
    }
    names, settings = [_shown(name) for name in varying], _settings(groups, varying)
    labels = ["seeds", *map(_shown, measured)]
    means = [
        [str(len(runs)), *(_mean([value(run) for run in runs]) for value in measured.values())]
        for runs in groups.values()
    ]
    rows = [[*setting, *values] for setting, values in zip(settings, means, strict=True)]
    widths = [
        _longest(word for text in column for word in text.split()) for column in zip(names + labels, *rows, strict=True)
    ]
    if _MARGIN + sum(own + _BETWEEN for own in widths) - _BETWEEN > width:
        yield from _transposed("Fine-tuning", names, settings, labels, means, width)
        return
    table = _table("Fine-tuning")
    for heading, least in zip(names + labels, widths, strict=True):
        table.add_column(heading, justify="right", min_width=least)
    for row in rows:
        table.add_row(*row)
    yield table


def _by_layer(groups: dict[Cell, list[Run]], varying: Sequence[str], width: int) -> Iterator[Table]:
    names, settings = [*map(_shown, varying), "layer"], [[*setting, ""] for setting in _settings(groups, varying)]
    count = max(len(run["isoscore_star_by_layer"]) for runs in groups.values() for run in runs)
    means = [
        [_mean([dict(enumerate(run["isoscore_star_by_layer"])).get(layer) for run in runs]) for layer in range(count)]
        for runs in groups.values()
    ]
    yield from _transposed("IsoScore* by layer", names, settings, list(map(str, range(count))), means, width)


def _transposed(
    title: str,
    names: Sequence[str],
    settings: Sequence[Sequence[str]],
    labels: Sequence[str],
    means: Sequence[Sequence[str]],
    width: int,
) -> Iterator[Table]:
    """Return tables with a column for each setting and a row for each label, as many as the width requires."""
    widths = [_longest([*setting, *values]) for setting, values in zip(settings, means, strict=True)]
    room = width - _MARGIN - _longest([*names, *labels])
    start = 0
    while start < len(means):
        fitting = sum(taken <= room for taken in accumulate(own + _BETWEEN for own in widths[start:]))
        end = start + max(1, fitting)
        table = _table(title)
        for heading in ("\n".join(names), *("\n".join(setting) for setting in settings[start:end])):
            table.add_column(heading, justify="right", overflow="fold")
        for label, values in zip(labels, zip(*means[start:end], strict=True), strict=True):
            table.add_row(label, *values)
        yield table
        start = end


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)


def _settings(groups: dict[Cell, list[Run]], varying: Sequence[str]) -> list[list[str]]:
    return [[_shown(getattr(cell, name)) for name in varying] for cell in groups]


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else printable(str(value)).replace("_", " ")


def _mean(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "undefined"
    mean = f"{fmean(numbers):.3g}" if abs(fmean(numbers)) >= 10 else f"{fmean(numbers):.3f}"
    return mean if len(numbers) == 1 else f"{mean} ± {stdev(numbers):.3f}"
