"""``isoscore-star demo``: the library applied to the hidden states that come with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from isoscore_star import Measurement
from isoscore_star.cli.options import AsJson, folder
from isoscore_star.cli.printable import printable
from isoscore_star.demonstration import LAMS, SEEDS, Comparison, Demonstration, demonstrate, prepare_folder, write_files


def demo(
    output: Annotated[
        Path, typer.Option(parser=folder, metavar="DIR", help="Folder for the results; made if missing.")
    ] = Path("demo_results"),
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - SEEDS, help="First of the five random seeds of the training.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure real hidden states, and raise and lower their isotropy in training (which needs torch).

    Writes results.json, layers.csv and, with matplotlib installed, layers.png and layers.svg.
    """
    prepare_folder(output)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring and training", total=1.0)
        results = demonstrate(seed, lambda done: bar.update(task, completed=done))
    files = write_files(results, output)
    if as_json:
        print(json.dumps(results.to_dict(), indent=2))
        return
    _report(Console(highlight=False), results)
    names = ", ".join(file.name for file in files)
    Console().print(f"Results are in {printable(str(output))}: {names}", markup=False, highlight=False, soft_wrap=True)


def _report(console: Console, results: Demonstration) -> None:
    console.print(
        f"Token states of {results.sentences} short English sentences ({results.tokens} tokens, [CLS] and [SEP] "
        "included) from every layer of all-MiniLM-L6-v2.",
        markup=False,
    )
    console.print(_layer_table(results))
    console.print(
        "Unbiased score: IsoScore without the bias of a small sample, ± its standard error (sentences left "
        "out in turn). The union leaves out layer 0, the embedding layer, as in the paper.\n"
    )
    if results.comparison is not None:
        console.print(_training_table(results.comparison))
        console.print(
            f"A classifier of each token's topic, trained {SEEDS} times for each lam from the same weights "
            "and batches: medians (ranges in brackets) of tokens that it never saw. IsoScore is the unbiased "
            "score of its hidden representation.\n"
        )
        for sentence in results.comparison.verdict:
            console.print(sentence)
    for sentence in results.left_out:
        console.print(sentence, markup=False, soft_wrap=True)


def _layer_table(results: Demonstration) -> Table:
    table = Table(title="Isotropy of each layer", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for heading in ("IsoScore", "unbiased score", "effective dims", "top outlier (share)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, layer in enumerate(results.layers):
        table.add_row(str(number), *_cells(layer))
    table.add_row(f"union 1-{len(results.layers) - 1}", *_cells(results.union))
    return table


def _cells(layer: Measurement) -> tuple[str, ...]:
    unbiased = "undefined"
    if layer.unbiased_score is not None:
        error = "?" if layer.standard_error is None else f"{layer.standard_error:.3f}"
        unbiased = f"{layer.unbiased_score:.3f} ± {error}"
    outlier = "none"
    if layer.outlier_dimensions:
        dimension, fraction = layer.outlier_dimensions[0]
        outlier = f"{dimension} ({fraction:.1%})"
    return f"{layer.score:.3f}", unbiased, f"{layer.effective_dimensions:.1f} of {layer.dim}", outlier


def _training_table(comparison: Comparison) -> Table:
    table = Table(
        title="Training with I-STAR: task loss + lam * (1 - IsoScore)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("lam", "IsoScore, before -> after", "accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for lam in LAMS:
        summary = comparison.summary(lam)
        (low, high), (worst, best) = summary.score_range, summary.accuracy_range
        table.add_row(
            f"{lam:g}",
            f"{summary.score_before:.3f} -> {summary.score_after:.3f} ({low:.3f}..{high:.3f})",
            f"{summary.accuracy:.1%} ({worst:.1%}..{best:.1%})",
        )
    return table
