"""The data of a task: GLUE by name, or files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError, MissingDependencyError
from isoscore_star.finetuning._examples import Examples, TaskData
from isoscore_star.finetuning._files import load_files
from isoscore_star.finetuning._settings import Settings
from isoscore_star.finetuning._tasks import Task, is_file, named_task
from isoscore_star.pretrained import first_line, offline_if_unreachable
from isoscore_star.readers import SelectionError, require_file


def require_files(settings: Settings) -> None:
    """Require that names are not empty, the task is known and its files exist, before anything is loaded."""
    for name, value in asdict(settings).items():
        words = value if isinstance(value, tuple) else (value,)
        if words and all(isinstance(word, str) and not word.strip() for word in words):
            raise SelectionError(name, "expected a name; got nothing. Leave it out, or name it")
    if not is_file(settings.task):
        named_task(settings.task)
        if settings.eval_file is not None:
            raise SelectionError(
                "eval_file", f"{settings.task} brings its own evaluation data. Give a file as task, too"
            )
    for file in filter(None, (settings.task, settings.eval_file)):
        if is_file(file):
            require_file(Path(file))


def load_task(settings: Settings) -> TaskData:
    """Load a task's examples.

    Raises
    ------
    SelectionError
        If the task, a file or a column does not exist.
    FileContentError
        If a file is damaged.
    InvalidValueError
        If the data cannot be loaded, or a label of the evaluation data never occurs in the training data.
    MissingDependencyError
        If a task of GLUE needs ``datasets``, and it is not installed.
    """
    data = load_files(settings) if is_file(settings.task) else _from_glue(settings)
    train, evaluation = data.train.at_most(settings.max_train), data.evaluation.at_most(settings.max_eval)
    return data._replace(train=train, evaluation=evaluation)


def _from_glue(settings: Settings) -> TaskData:
    task = named_task(settings.task)
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "task",
            f'{settings.task} comes through datasets, which is not installed: pip install "isoscore-star[huggingface]"',
        ) from error
    datasets.disable_progress_bars()
    try:
        with offline_if_unreachable("nyu-mll/glue"):
            loaded = datasets.load_dataset("nyu-mll/glue", settings.task)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InvalidValueError(
            "task",
            f"{settings.task} is neither in the cache of datasets nor could it be loaded from the Hugging Face "
            f"hub ({first_line(error)}). Without a network, give files: --task train.tsv --eval-file dev.tsv",
        ) from error
    names = None if task.metric == "pearson" else list(loaded["train"].features["label"].names)
    train, evaluation = (_glue_examples(loaded[split], task) for split in ("train", task.evaluation))
    return TaskData(train, evaluation, names, settings.metric or task.metric)


def _glue_examples(split: Any, task: Task) -> Examples:
    pairs = None if task.pair is None else list(split[task.pair])
    return Examples(list(split[task.text]), pairs, list(split["label"]))
