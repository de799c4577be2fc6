"""Texts to train and measure on: from a folder of files, or GLUE through ``datasets``."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import NamedTuple

from isoscore_star import IsoScoreError
from isoscore_star.finetuning import Examples, Settings, TaskData, load_task, split
from paper_checks._claim import NoDataError

_FOLDER = Path(__file__).parents[3] / "shared" / "data"
_COLA = ("source", "label", "mark", "sentence")
# Training, validation (None: a tenth of the training file) and test file.
_FILES: dict[str, tuple[str, str | None, str]] = {
    "sst2": ("sst2_sent/train.tsv", "sst2_sent/dev.tsv", "sst2_sent/test.tsv"),
    "cola": ("glue/CoLA/train.tsv", None, "glue/CoLA/dev.tsv"),
    "mrpc": ("glue/MRPC/train.tsv", None, "glue/MRPC/dev.tsv"),
    "rte": ("glue/RTE/train.tsv", None, "glue/RTE/dev.tsv"),
    "stsb": ("glue/STS-B/train.tsv", None, "glue/STS-B/dev.tsv"),
}
_METRICS = {"cola": "matthews", "mrpc": "f1", "stsb": "pearson"}
_HOW = (
    "Put the files into a folder and name it with ISOSCORE_DATA (paper_checks/README.md lists them), or install "
    'datasets (pip install "isoscore-star[huggingface]") where there is a network'
)


class TaskSplits(NamedTuple):
    """Examples to train on, to choose settings on, and to report on."""

    train: Examples
    validation: Examples
    test: Examples
    names: list[str] | None
    metric: str
    source: str


def data_folder() -> Path:
    """Return the folder of files that the environment names, or the default one."""
    return Path(os.environ.get("ISOSCORE_DATA", _FOLDER))


@functools.cache
def load_splits(task: str) -> TaskSplits:
    """Load a task.

    The labels of GLUE's own test sets are not public: where a task has no test file, its validation data are the test,
    and a tenth of the training data is held out to choose settings on.

    Raises
    ------
    NoDataError
        If it is neither in the folder nor to be had through ``datasets``.
    """
    files, folder = _FILES.get(task), data_folder()
    try:
        if files is not None and all((folder / file).is_file() for file in files if file):
            return _from_files(task, folder, *files)
        data = load_task(Settings(model="", task=task))
    except IsoScoreError as error:
        raise NoDataError(f"{task}: {error}. {_HOW}") from error
    rest, held_out = split(data.train, task)
    return TaskSplits(rest, held_out, data.evaluation, data.names, data.metric, "GLUE, through datasets")


def _from_files(task: str, folder: Path, train: str, validation: str | None, test: str) -> TaskSplits:
    columns = _COLA if task == "cola" else None
    metric = _METRICS.get(task)

    def load(evaluated: str) -> TaskData:
        files = (str(folder / train), str(folder / evaluated))
        return load_task(Settings("", *files, columns=columns, metric=metric))

    data = load(test)
    rest, held_out = split(data.train, task) if validation is None else (data.train, load(validation).evaluation)
    return TaskSplits(rest, held_out, data.evaluation, data.names, data.metric, f"{train}, {test}")
