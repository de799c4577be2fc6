"""What ``isoscore-star watch`` shows: how far a run is, its curves, and the score of each layer."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from isoscore_star.cli.printable import printable
from isoscore_star.watching import LAYER, PLAIN_BARS, Series, Watched, WatchedRun, sparkline

COLLAPSE = 0.1
"""Fraction of its first value below which a score has collapsed."""

_TREND, _SHORT_TREND = 32, 12
_LABELS = {
    "train/loss": "loss",
    "eval/loss": "evaluation: loss",
    "train/isoscore_star": "IsoScore* (union)",
    "eval/isoscore_star": "evaluation: IsoScore* (union)",
    "train/istar_penalty": "penalty",
    "train/lam": "lam",
}
_TIMES = (
    "runtime",
    "_per_second",
    "epoch",
    "flos",
    "grad_norm",
    "learning_rate",
    "lr",
    "lr-Adam",
    "lr-AdamW",
    "lr-SGD",
)


def view(watched: Watched, console: Console, *, height: int | None = None) -> Group:
    """Return what is shown of a folder; with a height, at most so many lines."""
    parts: list[Any] = [Text(headline(watched), overflow="fold")]
    parts += [Text(f"note: {printable(note)}", overflow="fold") for note in watched.notes]
    room = None if height is None else height - len(parts)
    if watched.results:
        shown = watched.results if room is None else watched.results[-max(1, room // 3) :]
        parts.append(_results(shown, len(watched.results)))
        room = None if room is None else room - len(shown) - 5
    if watched.runs:
        run = watched.runs[-1]
        curves = _curves(run, console)
        if curves.row_count:
            parts.append(curves)
            room = None if room is None else room - curves.row_count - 5
        parts += _layers(run, console, room)
    return Group(*parts)


def headline(watched: Watched) -> str:
    """Return a line: the folder, the run, its step and its state."""
    words = [printable(watched.folder) + ":"]
    run = watched.runs[-1] if watched.runs else None
    if watched.planned is not None and watched.planned > 1:
        number = min(len(watched.results) + (run is not None and run.state != "finished"), watched.planned)
        words.append(f"run {number} of {watched.planned},")
    if run is not None:
        words.append(printable(run.name) + ",")
        if run.step is not None:
            known = run.steps is not None and run.steps > 0
            words.append(f"step {run.step}" + (f" of {run.steps} ({run.step / run.steps:.0%})," if known else ","))  # type: ignore[operator]
    state = {"unknown": "no end in sight: its log does not tell"}.get(watched.state, watched.state)
    return " ".join([*words, state if run is not None or watched.state != "unknown" else "no step yet"])


def lines_after(run: WatchedRun, before: int | None) -> Iterator[str]:
    """Yield a line for each step after one, with the values of the step or the last ones before it, for a pipe."""
    rows = [(label, run.series[name]) for name, label in _rows(run)]
    steps = sorted({step for own in run.series.values() for step in own.steps[_count(own, before) :]})
    for step in steps if run.series or before is not None else [run.step or 0]:
        words = [run.name, f"step {step}" + (f"/{run.steps}" if run.steps else "")]
        for label, own in rows:
            seen = _count(own, step)
            words += [f"{label} {_number(own.values[seen - 1])}"] if seen else []
        yield printable(", ".join(words))


def _count(series: Series, step: int | None) -> int:
    """Return how many values a curve has up to a step."""
    return 0 if step is None else bisect_right(series.steps, step)


def _rows(run: WatchedRun) -> Iterator[tuple[str, str]]:
    """Yield names of curves and what they are called: losses, metrics, scores, the rest of the penalty."""
    names = [name for name in run.series if not LAYER.search(name) and not name.endswith(_TIMES)]
    evaluated = [name for name in names if name.startswith("eval/") and name not in _LABELS]
    losses = [name for name in names if name.startswith("train/") and "loss" in name and name not in _LABELS]
    others = [name for name in names if name not in (*_LABELS, *evaluated, *losses)]
    known = [name for name in _LABELS if name in names]
    for name in [*known[:1], *losses, *known[1:], *evaluated, *others]:
        yield name, _LABELS.get(name, name.removeprefix("train/").replace("eval/", "evaluation: "))


def _curves(run: WatchedRun, console: Console) -> Table:
    table = _table("", "first", "last", "trend", "")
    for name, label in _rows(run):
        is_score = name.endswith("isoscore_star")
        _add(table, label, run.series[name], console, is_score=is_score)
    return table


def _layers(run: WatchedRun, console: Console, room: int | None) -> Iterator[Any]:
    for phase, title in (("train", "IsoScore* by layer"), ("eval", "IsoScore* by layer, evaluation")):
        layers = run.layers(phase)
        if not layers:
            continue
        shown = list(layers)
        most = None if room is None else max(3, room - 6)
        if most is not None and len(shown) > most:
            lowest = sorted(shown, key=lambda name: _sortable(layers[name].last))[:most]
            shown = [name for name in shown if name in lowest]
            title += f": the lowest {len(shown)} of {len(layers)}"
        table = _table("layer", "first", "last", "trend", "", title=title)
        for name in shown:
            _add(table, str(int(LAYER.search(name)[1])), layers[name], console, is_score=True)  # type: ignore[index]
        yield table
        room = None if room is None else room - len(shown) - 6


def _results(results: tuple[Mapping[str, Any], ...], total: int) -> Table:
    metric = printable(str(results[-1]["metric"]))
    left = f" (the last {len(results)} of {total})" if len(results) < total else ""
    table = _table("run", metric, "IsoScore* (union)", "unbiased", title=f"Finished runs, held-out data{left}")
    for result in results:
        numbers = [_number(result[name]) for name in ("value", "isoscore_star", "isoscore_star_unbiased")]
        table.add_row(Text(printable(result["name"]), overflow="fold"), *numbers)
    return table


def _table(first: str, *others: str, title: str | None = None) -> Table:
    heading = None if title is None else Text(title)
    table = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        left = name in ("trend", "")
        table.add_column(Text(name), justify="left" if left else "right", no_wrap=name != "")
    return table


def _add(table: Table, label: str, series: Series, console: Console, *, is_score: bool) -> None:
    first, last = series.first, series.last
    note = ""
    if not math.isfinite(last):
        note = "not finite"
    elif is_score and first is not None and last < COLLAPSE * first:
        note = "collapsed"
    bars = {} if console.encoding.lower().startswith("utf") else {"bars": PLAIN_BARS}
    trend = sparkline(series.values, _TREND if console.width >= 90 else _SHORT_TREND, **bars)
    style = "bold red" if note else ""
    table.add_row(Text(printable(label), overflow="fold"), _number(first), _number(last), trend, note, style=style)


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.2e}"


def _sortable(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
