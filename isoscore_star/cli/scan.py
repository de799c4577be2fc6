"""``isoscore-star scan``: what state every layer of a model is in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from isoscore_star.cli.errors import OptionError
from isoscore_star.cli.options import AsJson, folder
from isoscore_star.cli.printable import note, printable
from isoscore_star.cli.report import require_page, write_page


class Precision(str, Enum):
    """What the model computes in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"
    auto = "auto"


def scan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Folder, or name on the Hugging Face hub: of transformers, sentence-transformers, PEFT, or GGUF.",
        ),
    ],
    text: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Lines, .tsv, .csv, .jsonl, .parquet, or a data set of the hub; by default 256 sentences of our own.",
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of a table that has the texts.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Images instead of texts, for a vision encoder.")
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Measure the rows of the embedding matrices instead, without the model.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps numbers and moments; the same command goes on there.", parser=folder),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", "-o", metavar="FILE.html", help="Write the whole answer as a page to look at."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Places or names, as in 0,6,-1 or 'decoder*'; 0 is the embedding layer."),
    ] = None,
    max_texts: Annotated[int | None, typer.Option(help="Take the first ones only.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Where longer texts are cut.")] = 128,
    batch_size: Annotated[int, typer.Option(help="At most as many texts at a time.")] = 16,
    dtype: Annotated[
        Precision | None, typer.Option(help="Of the model; by default float32 on a CPU, its own elsewhere.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="As in cpu or cuda:1; by default a GPU if there is one.")] = None,
    gguf_file: Annotated[str | None, typer.Option(metavar="NAME", help="Which file of a folder.")] = None,
    blocks: Annotated[
        int, typer.Option(help="Blocks of sequences for the standard error; fewer take less memory.")
    ] = 20,
    sketch: Annotated[
        int | None,
        typer.Option(metavar="COLUMNS", help="Sketch instead of d² numbers a layer; by itself where memory is short."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="For the moments, as in 8GB; by default half of what is free.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model over texts once, and tell how evenly each layer's token states use their dimensions."""
    if report is not None:
        require_page(report)
    from isoscore_star.scanning import scan as scan_model
    from isoscore_star.scanning import scan_weights

    kept = output is not None and (output / "moments.safetensors").exists()
    if weights:
        if text is not None or images is not None:
            raise OptionError("weights", "reads no texts and no images, only the model's files. Leave out the others")
        with _progress("reading") as advance:
            found = scan_weights(model, output=output, progress=advance)
    else:
        with _progress("scanning") as advance:
            found = scan_model(
                model,
                text,
                images=images,
                layers=None if layers is None else _layers(layers),
                batch_size=batch_size,
                max_tokens=max_tokens,
                max_texts=max_texts,
                text_column=text_column,
                dtype=None if dtype is None else dtype.value,
                device=device,
                gguf_file=gguf_file,
                blocks=blocks,
                sketch=sketch,
                memory=memory,
                output=output,
                progress=advance,
            )
    if not found.layers:  # another process than the first of torchrun
        return
    if kept:
        note(f"{output} holds this scan: nothing was read again")
    if report is not None:
        write_page(found, report)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    from isoscore_star.cli.scan_tables import show_scan

    show_scan(found)
    if report is not None:
        print(printable(f"report: {report}"))


def _layers(text: str) -> list[int | str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise OptionError("layers", f"expected places or names between commas; got {text!r}")
    found: list[int | str] = []
    for word in words:
        try:
            found.append(int(word))
        except ValueError:
            found.append(word)
    return found


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on a terminal, and nothing in a pipe."""
    hidden = not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda done, total: bar.update(task, description=what, completed=done, total=total)
