"""The tasks of GLUE: their columns and metrics."""

from __future__ import annotations

from typing import NamedTuple

from isoscore_star.readers import TEXT_SUFFIXES, SelectionError


class Task(NamedTuple):
    """One task of GLUE."""

    text: str
    pair: str | None = None
    metric: str = "accuracy"
    evaluation: str = "validation"


TASKS = {
    "cola": Task("sentence", metric="matthews"),
    "mnli": Task("premise", "hypothesis", evaluation="validation_matched"),
    "mrpc": Task("sentence1", "sentence2", metric="f1"),
    "qnli": Task("question", "sentence"),
    "qqp": Task("question1", "question2", metric="f1"),
    "rte": Task("sentence1", "sentence2"),
    "sst2": Task("sentence"),
    "stsb": Task("sentence1", "sentence2", metric="pearson"),
    "wnli": Task("sentence1", "sentence2"),
}

# Columns of a file, in order of preference, where the user names none; "#1 String" and "Quality" are MRPC's.
TEXTS = ("sentence1", "premise", "question", "question1", "#1 String", "sentence", "text")
PAIRS = {
    "sentence1": "sentence2",
    "premise": "hypothesis",
    "question": "sentence",
    "question1": "question2",
    "#1 String": "#2 String",
}
LABELS = ("label", "labels", "score", "Quality", "target", "class")


def is_file(task: str) -> bool:
    """Return whether a task is a file rather than a name."""
    return task.lower().endswith(TEXT_SUFFIXES)


def named_task(name: str) -> Task:
    """Return a task of GLUE."""
    if name not in TASKS:
        raise SelectionError(
            "task", f"{name!r} is unknown; the known ones are {', '.join(TASKS)}, or a file: {' '.join(TEXT_SUFFIXES)}"
        )
    return TASKS[name]
