"""``isoscore-star finetune``: a whole fine-tuning with I-STAR, or a sweep of them."""

from __future__ import annotations

import json
import logging
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from isoscore_star.cli.errors import OptionError, checking_options
from isoscore_star.cli.finetune_tables import show_results
from isoscore_star.cli.options import folder
from isoscore_star.cli.printable import printable
from isoscore_star.finetuning import Cell, Settings, cells, check_seeds, parse_sweep
from isoscore_star.finetuning import Progress as Report
from isoscore_star.finetuning import finetune as run_all

_MOST = 2**31 - 1


class Shape(str, Enum):
    """Course of λ after its warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class Device(str, Enum):
    """Device of the model."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class LossEstimator(str, Enum):
    """The score of which the penalty is made."""

    shrinkage = "shrinkage"
    unbiased = "unbiased"
    anchored = "anchored"


class Metric(str, Enum):
    """Metric of predictions."""

    accuracy = "accuracy"
    f1 = "f1"
    matthews = "matthews"
    pearson = "pearson"


def finetune(
    model: Annotated[str, typer.Option(metavar="NAME_OR_DIR", help="Model of the Hugging Face hub, or a folder.")],
    task: Annotated[str, typer.Option(help="A GLUE task (sst2, rte, ...), or a .tsv, .csv or .jsonl file.")],
    output: Annotated[
        Path, typer.Option(parser=folder, metavar="DIR", help="Folder for the results; runs that are there are kept.")
    ],
    axes: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUES]...", help="More values to sweep.", show_default=False)
    ] = None,
    lam: Annotated[float, typer.Option(help="Above 0 towards isotropy, below 0 away from it; 0: no penalty.")] = 1.0,
    zeta: Annotated[
        float | None,
        typer.Option(help="Of the paper's estimator: weight of the shrinkage covariance, from 0 to 1; 0.2 by default."),
    ] = None,
    estimator: Annotated[
        LossEstimator | None,
        typer.Option(
            help="anchored, for any batch, by default; shrinkage (the paper's), by default with --zeta; unbiased, from "
            "16 sentences a batch on.",
        ),
    ] = None,
    target: Annotated[float | None, typer.Option(help="A wanted score in [0, 1], approached from either side.")] = None,
    floor: Annotated[float | None, typer.Option(help="With lam < 0: a score below which the pull stops.")] = None,
    lam_schedule: Annotated[Shape, typer.Option(help="What lam does after its warm-up.")] = Shape.constant,
    warmup_steps: Annotated[int, typer.Option(help="Steps in which lam rises from 0.")] = 0,
    layers: Annotated[
        str | None, typer.Option(metavar="1,2,-1", help="Layers in the penalty; by default all but the embeddings.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training data.")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Examples a batch.")] = 16,
    lr: Annotated[float, typer.Option(help="Learning rate, which falls linearly to 0.")] = 5e-5,
    dropout: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="All dropout rates of the model, instead of its own; 0 for an exact target."),
    ] = None,
    gradient_accumulation: Annotated[int, typer.Option(min=1, max=_MOST, help="Batches a step.")] = 1,
    seeds: Annotated[str, typer.Option(metavar="0,1,2", help="One run for each.")] = "0",
    sweep: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUES", help="Values to sweep, as lam=-1,0,1 zeta=0.2,0.4.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, max=_MOST, help="Steps, whatever --epochs says.")] = None,
    max_train: Annotated[int | None, typer.Option(min=1, help="Training examples at most.")] = None,
    max_eval: Annotated[int | None, typer.Option(min=1, help="Evaluation examples at most.")] = None,
    max_length: Annotated[int, typer.Option(min=4, max=_MOST, help="Tokens at which an example is cut off.")] = 128,
    eval_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Evaluation data; by default 10 % of the training file.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="sentence,label", help="Columns of a file that has no header.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the text.")] = None,
    text_pair_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the label.")] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="By default the task's; for a file accuracy, or pearson for measured labels.")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")] = Device.auto,
    keep_models: Annotated[
        bool, typer.Option("--keep-models/--discard-models", help="Leave the best model of each run in the folder.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of results.json.")] = False,
) -> None:
    """Fine-tune a model with I-STAR: one run for each combination of swept values and each seed.

    Writes results.json, steps.csv and the best model of each run; called again, it goes on where it was.
    """
    settings = Settings(
        model=model,
        task=task,
        eval_file=eval_file,
        columns=None if columns is None else tuple(name.strip() for name in columns.split(",")),
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        metric=None if metric is None else metric.value,
        layers=None if layers is None else tuple(_whole_numbers("layers", layers)),
        dropout=dropout,
        max_length=max_length,
        max_steps=max_steps,
        max_train=max_train,
        max_eval=max_eval,
        gradient_accumulation=gradient_accumulation,
        device=device.value,
    )
    with checking_options():
        swept = parse_sweep([*(sweep or ()), *(axes or ())])
        if estimator is None:  # ζ is the paper's
            estimator = LossEstimator.anchored if zeta is None and "zeta" not in swept else LossEstimator.shrinkage
        base = Cell(
            lam,
            0.2 if zeta is None else zeta,
            estimator.value,
            target,
            floor,
            lam_schedule.value,
            warmup_steps,
            float(epochs),
            batch_size,
            lr,
        )
        cells(base, swept)
        wanted_seeds = list(dict.fromkeys(_whole_numbers("seeds", seeds)))
        check_seeds(wanted_seeds)
    with _progress() as report:
        results = run_all(settings, base, swept, wanted_seeds, output, report, keep_models=keep_models)
    content = results.to_dict()
    if as_json:
        print(json.dumps(content, indent=2))
        return
    show_results(content["runs"])
    Console().print(
        f"Results are in {printable(str(results.folder))}: results.json, steps.csv, runs/",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise OptionError(option, f"expected whole numbers, as 1,2; got {reprlib.repr(text)}") from None


class _Notes(logging.Handler):
    """Shows warnings of the library above the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console, self.about = console, ""

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(f"note: {self.about}: {record.getMessage()}")
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Report]:
    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    logger, notes = logging.getLogger("isoscore_star"), _Notes(console)
    logger.addHandler(notes)
    try:
        with Progress(
            *shown, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task("loading", total=1.0)

            def report(what: str, done: float) -> None:
                notes.about = what
                bar.update(task, description=what, completed=done)

            yield report
    finally:
        logger.removeHandler(notes)
