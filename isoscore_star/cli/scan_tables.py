"""The table of ``isoscore-star scan``."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from isoscore_star import Measurement
from isoscore_star.cli.printable import printable
from isoscore_star.scanning import Scan, ScannedLayer, hangs_on_few

_SHORT = {"first tokens": "no\nfirst", "special tokens": "no\nspec.", "first and special tokens": "neither"}
_SHOWN_TOKENS = 3
_SHOWN_SHARE = 0.01


def show_scan(scan: Scan) -> None:
    """Print a row for each layer, what explains the worst of them, and what to mind."""
    console = Console(markup=False, emoji=False, highlight=False)  # names of files and tokens are not markup
    layers = [*scan.layers, *filter(None, (scan.union, scan.embeddings))]
    kinds = [
        kind
        for kind in ("first tokens", "special tokens", "first and special tokens")
        if any(kind in layer.without for layer in layers)
    ]
    widest = max(layer.measurement.dim for layer in layers)
    most = max(layer.measurement.count for layer in scan.layers)
    counts = f"{most:,} rows, {widest:,} dimensions"
    if scan.provenance.get("texts") != "weights":
        sequences = scan.provenance.get("sequences")
        counts = f"{sequences:,} sequence{'s' * (sequences != 1)}, {most:,} tokens a layer, {widest:,} dimensions"
    title = f"{printable(scan.model)}: {counts}"
    columns = ["layer", "score", *(_SHORT[kind] for kind in kinds), "dims", "largest", "mean"]
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    for layer in layers:
        table.add_row(*_row(layer, kinds))
    console.print(table)
    console.print("; ".join(_legend(scan, kinds)), style="dim")
    worst = min(scan.layers, key=lambda layer: headline(layer.measurement))
    console.print(f"\n{printable(worst.name)}{', the least isotropic' * (len(scan.layers) > 1)}:")
    for sentence in worst.explanation.sentences if worst.explanation is not None else ():
        console.print(f"  {printable(sentence)}")
    if worst.longest_tokens and worst.longest_tokens[0].variance_share >= _SHOWN_SHARE:
        console.print(f"  Farthest from the mean: {_tokens(worst)}.")
    for warning in scan.warnings:
        console.print(f"warning: {printable(warning)}", style="yellow")
    for line in scan.notes:
        console.print(f"note: {printable(line)}", style="dim")


def _legend(scan: Scan, kinds: list[str]) -> list[str]:
    of = "the points" if scan.provenance.get("texts") == "weights" else "two halves of the sequences"
    without = {
        "first tokens": "no first: without the sequences' first tokens",
        "special tokens": "no spec.: without special tokens",
    }
    return [
        f"score: of {of}, from 0 (one direction) to 1 (isotropic), ± its standard error",
        *(without[kind] for kind in kinds if kind in without),
        "dims: effective dimensions",
        "largest: the coordinate with the most variance",
        "mean: its share of the squared length, which the score does not see",
        "!: hangs on a few points",
    ]


def headline(measurement: Measurement) -> float:
    """Return the score of halves or, where there is none, the plug-in score."""
    return measurement.score if measurement.unbiased_score is None else measurement.unbiased_score


def _row(layer: ScannedLayer, kinds: list[str]) -> list[str]:
    measurement = layer.measurement
    error = "" if measurement.standard_error is None else f" ± {_figure(measurement.standard_error)}"
    without = [_score(layer.without[kind]) if kind in layer.without else "" for kind in kinds]
    largest = int(measurement.variances.argmax())
    share = float(measurement.variances[largest] / measurement.variances.sum())
    return [
        printable(layer.name),
        f"{_score(measurement)}{error}",
        *without,
        f"{measurement.effective_dimensions:,.1f}",
        f"{largest} ({share:.1%})",
        "" if layer.explanation is None else f"{layer.explanation.mean_share:.1%}",
    ]


def _score(measurement: Measurement) -> str:
    return f"{_figure(headline(measurement))}{'!' * hangs_on_few(measurement)}"


def _figure(value: float) -> str:
    """Return four decimals, or two digits of what these would hide."""
    return f"{value:.4f}" if abs(value) >= 0.001 or not value else f"{value:.1e}"


def _tokens(layer: ScannedLayer) -> str:
    shown = [
        f"{token.token!r} at position {token.position} of text {token.text} ({token.variance_share:.1%} of variance)"
        for token in layer.longest_tokens[:_SHOWN_TOKENS]
    ]
    return printable(", ".join(shown))
