"""Runs of every cell with every seed, one after another, without those that are finished already."""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoscore_star import InvalidValueError, LambdaSchedule
from isoscore_star.atomic_files import writing_to
from isoscore_star.finetuning._data import load_task, require_files
from isoscore_star.finetuning._encoding import encode, require_words
from isoscore_star.finetuning._model import load_tokenizer, require_packages
from isoscore_star.finetuning._results import Results, shared_settings
from isoscore_star.finetuning._settings import PENALTY, Cell, Settings, cells, check_seeds
from isoscore_star.finetuning._tasks import is_file
from isoscore_star.pretrained import quiet
from isoscore_star.watching import RunLog

if TYPE_CHECKING:
    from isoscore_star.finetuning._run import Prepared

Progress = Callable[[str, float], None]
"""Called with the current step, such as ``"loading"``, and the fraction of all runs that is done."""


def finetune(
    settings: Settings,
    base: Cell,
    sweep: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    output: Path,
    progress: Progress | None = None,
    *,
    keep_models: bool = True,
) -> Results:
    """Fine-tune a model with every combination of the swept values and every seed.

    Parameters
    ----------
    settings : Settings
        Shared by all runs.
    base : Cell
        The values of settings that are not swept.
    sweep : mapping of str to sequence
        Values by name, of `Cell`'s fields.
    seeds : sequence of int
        One run each, for every combination.
    output : Path
        Folder for results.json, steps.csv, log.jsonl and the runs' best models. Finished runs in it are not repeated.
    progress : callable, optional
        See `Progress`.
    keep_models : bool, default True
        Keep the best state of each run in the folder, not only its numbers.

    Returns
    -------
    Results
        All runs of the folder. Those that differ only in settings without effect (ζ with λ = 0 or the unbiased
        estimator) are one training; the later ones record the name of the first as ``same_as``.

    Raises
    ------
    IsoScoreError
        For settings, files and models that cannot be used, and too little memory.
    """
    wanted = cells(base, sweep)
    check_seeds(seeds)
    require_files(settings)
    progress = progress or (lambda _what, _fraction: None)
    progress("loading", 0.0)
    require_packages()
    _require_device(settings.device)
    with quiet():
        from isoscore_star.finetuning._run import Prepared

        data = load_task(settings)
        shared = shared_settings(settings, base, sweep, data_sha256=_fingerprints(settings))
        results = Results(output, shared)
        tokenizer = load_tokenizer(settings.model)
        train, evaluation = (encode(part, tokenizer, settings.max_length) for part in (data.train, data.evaluation))
        require_words(train, tokenizer, settings.model)
        for cell in wanted:
            steps = settings.steps(cell, len(train))
            LambdaSchedule(cell.lam, steps, warmup_steps=cell.warmup_steps, shape=cell.lam_schedule)
        prepared = Prepared(settings, data, tokenizer, train, evaluation)
        everything = [(cell, seed) for cell in wanted for seed in seeds]
        log = RunLog(output)
        with results.alone(), log.sweep([run_name(cell, seed, sweep) for cell, seed in everything]):
            _run_all(prepared, results, everything, sweep, progress, keep_models, log)
    return results


def _run_all(
    prepared: Prepared,
    results: Results,
    everything: Sequence[tuple[Cell, int]],
    sweep: Mapping[str, Sequence[Any]],
    progress: Progress,
    keep_models: bool,
    log: RunLog,
) -> None:
    from isoscore_star.finetuning._memory import advising_on_memory
    from isoscore_star.finetuning._run import run

    for number, (cell, seed) in enumerate(everything):
        if results.find(cell, seed) is not None:
            continue
        name = run_name(cell, seed, sweep)
        own = {"name": name, **asdict(cell), "seed": seed}
        twin = results.find_twin(cell, seed)
        if twin is not None:
            results.add({**twin, **own, "same_as": twin.get("same_as", twin["name"])})
            continue
        what = f"run {number + 1} of {len(everything)}: {name}"
        folder = results.folder / "runs" / name
        _remove(folder)
        with advising_on_memory(cell, prepared.settings):
            measured = run(
                prepared,
                cell,
                seed,
                folder,
                lambda step, name=name: results.add_step({"run": name, **step}),  # type: ignore[misc]
                functools.partial(log.write, run=name),
                lambda done, what=what, number=number: progress(what, (number + done) / len(everything)),  # type: ignore[misc]
            )
        if not keep_models:
            _remove(folder)
        results.add({**own, **measured, "model": f"runs/{name}/model" if keep_models else None})
        log.write("end", run=name)


def _remove(folder: Path) -> None:
    with writing_to(folder):
        if folder.exists():
            shutil.rmtree(folder)


def run_name(cell: Cell, seed: int, swept: Mapping[str, Any]) -> str:
    """Return the name of a run and its folder, unique in the folder of results."""
    parts = {**{name: getattr(cell, name) for name in (*PENALTY, *swept)}, "seed": seed}
    return "_".join(f"{name}={str(value).removesuffix('.0')}" for name, value in parts.items() if value is not None)


def _require_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidValueError("device", "torch finds no CUDA device here. Give --device cpu or auto")


def _fingerprints(settings: Settings) -> dict[str, str]:
    """Return each file's hash, which distinguishes runs on other data."""
    files = [file for file in (settings.task, settings.eval_file) if file is not None and is_file(file)]
    return {file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files}
