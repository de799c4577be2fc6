"""Examples from files: which columns they are in, and what their labels stand for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from isoscore_star._errors import InvalidValueError
from isoscore_star.finetuning._examples import Examples, TaskData, split
from isoscore_star.finetuning._settings import Settings
from isoscore_star.finetuning._tables import Table, read_table
from isoscore_star.finetuning._tasks import LABELS, PAIRS, TEXTS
from isoscore_star.readers import FileContentError, SelectionError


def load_files(settings: Settings) -> TaskData:
    """Load a task from one file or two; see `load_task` for what is raised."""
    train = _read(settings, settings.task)
    held_out = None if settings.eval_file is None else _read(settings, settings.eval_file)
    regression = settings.metric == "pearson" or (settings.metric is None and _are_measures(train.labels))
    metric = settings.metric or ("pearson" if regression else "accuracy")
    names = None if regression else _class_names(train.labels, settings.task)
    train = train._replace(labels=_numbers(train.labels, names, settings.task))
    if held_out is not None:
        assert settings.eval_file is not None
        return TaskData(
            train, held_out._replace(labels=_numbers(held_out.labels, names, settings.eval_file)), names, metric
        )
    return TaskData(*split(train, settings.task), names, metric)


def _read(settings: Settings, file: str) -> Examples:
    own = [settings.text_column, settings.text_pair_column, settings.label_column]
    known = [name for name in own if name] or [*TEXTS, *LABELS]
    table = read_table(Path(file), settings.columns, known)
    text = settings.text_column or _found(table, TEXTS, "text-column")
    pair = settings.text_pair_column or (PAIRS.get(text) if settings.text_column is None else None)
    if pair is not None and settings.text_pair_column is None and pair not in table.columns:
        pair = None
    label = settings.label_column or _found(table, LABELS, "label-column")
    return Examples(
        _texts(table, text),
        None if pair is None else _texts(table, pair),
        [_label(table, row, value) for row, value in enumerate(table.column(label), 1)],
    )


def _found(table: Table, names: tuple[str, ...], option: str) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise SelectionError(f"{table.missing(' or '.join(map(repr, names)))}; or say which it is with --{option}")


def _texts(table: Table, column: str) -> list[str]:
    texts = table.column(column)
    for row, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise FileContentError(f"{table.path}: row {row} has no text in column {column!r}; got {text!r}")
    return texts


def _label(table: Table, row: int, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = "" if value is None else str(value).strip()
    if not label:
        raise FileContentError(f"{table.path}: row {row} has no label")
    return label


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _are_measures(labels: list[str]) -> bool:
    """Tell labels that are measured, as 3.8, from names of classes, as 0 and 1."""
    numbers = [_number(label) for label in labels]
    return None not in numbers and any(number != round(number) for number in numbers if number is not None)


def _class_names(labels: list[str], file: str) -> list[str]:
    names = set(labels)
    if len(names) < 2:
        raise InvalidValueError(f"{file}: every label is {labels[0]!r}; there is nothing to learn")
    by_number = all(_number(name) is not None for name in names)
    return sorted(names, key=lambda name: (_number(name) if by_number else 0.0, name))


def _numbers(labels: list[str], names: list[str] | None, file: str) -> list[Any]:
    if names is None:
        values = [_number(label) for label in labels]
        if None in values:
            row = values.index(None)
            raise InvalidValueError(f"{file}: regression needs numbers as labels; row {row + 1} has {labels[row]!r}")
        return values
    places = {name: index for index, name in enumerate(names)}
    for row, label in enumerate(labels, 1):
        if label not in places:
            shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise InvalidValueError(
                f"{file}: row {row} has the label {label!r}, which never occurs in the training data; "
                f"its labels are {shown}"
            )
    return [places[label] for label in labels]
