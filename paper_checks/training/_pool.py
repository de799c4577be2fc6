"""Make the runs that are not there yet, several at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paper_checks._claim import NoDataError, Run
from paper_checks.training._recipe import Recipe


def trained(run: Run, recipes: Sequence[Recipe]) -> dict[Recipe, dict[str, Any]]:
    """Give the record of every recipe, made now if it was not made before.

    Each record is a file as soon as its run is done, so a killed command goes on where it was.

    Raises
    ------
    NoDataError
        If a package, the texts or the model are not here; the message says how to get them.
    """
    wanted = list(dict.fromkeys(recipes))
    missing = [recipe for recipe in wanted if not run.cache.path("training", recipe.parameters).exists()]
    if missing:
        _make(run, missing)
    return {recipe: run.cache.get("training", recipe.parameters, dict) for recipe in wanted}


def cost(records: Mapping[Recipe, Mapping[str, Any]]) -> str:
    """Say how much training stands behind records; a claim's own time has only what was not in the cache yet."""
    seconds = [record["seconds"] for record in records.values() if "seconds" in record]
    return f"{len(seconds)} runs, {np.median(seconds):.0f} s of training each (median; on a CPU, of one core)."


def _make(run: Run, missing: Sequence[Recipe]) -> None:
    try:
        import joblib
        import torch
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise NoDataError(f'needs {error.name}: pip install "isoscore-star[huggingface]"') from error
    jobs = run.jobs or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    console = Console(stderr=True)
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=len(missing))
        # One run with all cores is slower than several with a core each: small models wait for their threads.
        with joblib.parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=threads):
            tasks = (joblib.delayed(_made)(run.cache, recipe, threads) for recipe in missing)
            for number, recipe in enumerate(joblib.Parallel(return_as="generator_unordered")(tasks), 1):
                bar.update(task, description=str(recipe), completed=number)
                if not console.is_terminal:
                    print(f"   run {number} of {len(missing)}: {recipe}", file=console.file, flush=True)


def _made(cache: Any, recipe: Recipe, threads: int) -> Recipe:
    import torch

    from paper_checks.training._train import make_record

    torch.set_num_threads(threads)
    cache.get("training", recipe.parameters, lambda: make_record(recipe))
    return recipe
