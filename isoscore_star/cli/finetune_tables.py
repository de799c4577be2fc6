"""The tables at the end of ``isoscore-star finetune``: means over seeds, ± standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from statistics import fmean, stdev
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from isoscore_star.finetuning import Cell, cell_of

_PIPE_WIDTH = 200
"""Characters a line where there is no terminal whose width could be asked for."""

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
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(_overall(groups, varying))
    console.print(_by_layer(groups, varying))
    console.print(
        "Held-out data. Union: all layers but layer 0, the embedding layer, as in the paper. Unbiased: without the "
        "bias of a small sample. Spread: standard deviation over seeds.",
        soft_wrap=True,
    )
    for note in dict.fromkeys(note for run in runs for note in run["notes"]):
        console.print(note, markup=False, soft_wrap=True)


def _overall(groups: dict[Cell, list[Run]], varying: Sequence[str]) -> Table:
    metric = next(iter(groups.values()))[0]["metric"]["name"]
    measured: dict[str, Callable[[Run], float | None]] = {
        metric: lambda run: run["metric"]["value"],
        "IsoScore* (union)": lambda run: run["isoscore_star"],
        "unbiased": lambda run: run["isoscore_star_unbiased"],
        "intrinsic dimension": lambda run: run["intrinsic_dimension"],
        "s/step": lambda run: run["seconds_per_step"],
    }
    table = _table("Fine-tuning", [*varying, "seeds", *measured])
    for cell, runs in groups.items():
        cells = [_mean([value(run) for run in runs]) for value in measured.values()]
        table.add_row(*(_shown(getattr(cell, name)) for name in varying), str(len(runs)), *cells)
    return table


def _by_layer(groups: dict[Cell, list[Run]], varying: Sequence[str]) -> Table:
    count = max(len(run["isoscore_star_by_layer"]) for runs in groups.values() for run in runs)
    table = _table("IsoScore* by layer", [*varying, *map(str, range(count))])
    for cell, runs in groups.items():
        cells = [_mean([run["isoscore_star_by_layer"][layer] for run in runs], "\n") for layer in range(count)]
        table.add_row(*(_shown(getattr(cell, name)) for name in varying), *cells)
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in headings:
        table.add_column(heading.replace("_", " "), justify="right")
    return table


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float | None], between: str = " ") -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "undefined"
    mean = f"{fmean(numbers):.3g}" if abs(fmean(numbers)) >= 10 else f"{fmean(numbers):.3f}"
    return mean if len(numbers) == 1 else f"{mean}{between}± {stdev(numbers):.3f}"
