"""Examples from files: their columns and their labels."""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.finetuning._examples import Examples, TaskData, split
from isoscore_star.finetuning._settings import Settings
from isoscore_star.finetuning._tasks import LABELS, PAIRS, TEXTS
from isoscore_star.readers import FileContentError, SelectionError, TextTable, read_text_table

_FLOAT32_MAX = 3.4028234663852886e38


def load_files(settings: Settings) -> TaskData:
    """Load a task from one file or two; see `load_task` for what is raised."""
    train = _read(settings, settings.task)
    held_out = None if settings.eval_file is None else _read(settings, settings.eval_file)
    regression = settings.metric == "pearson" or (
        settings.metric is None and _are_measures(train.labels, settings.task)
    )
    metric = settings.metric or ("pearson" if regression else "accuracy")
    if len(set(train.labels)) < 2:
        raise InvalidValueError(
            settings.task, f"every label is {reprlib.repr(train.labels[0])}; there is nothing to learn"
        )
    names = None if regression else _class_names(train.labels)
    train = train._replace(labels=_numbers(train.labels, names, settings.task))
    if held_out is None or settings.eval_file is None:
        return TaskData(*split(train, settings.task), names, metric)
    held_out = held_out._replace(labels=_numbers(held_out.labels, names, settings.eval_file))
    return TaskData(train, held_out, names, metric)


def _read(settings: Settings, file: str) -> Examples:
    own = [settings.text_column, settings.text_pair_column, settings.label_column]
    known = [name for name in own if name] or [*TEXTS, *LABELS]
    table = read_text_table(Path(file), settings.columns, known)
    text = settings.text_column or _first_of(table, TEXTS, "text-column")
    pair = settings.text_pair_column
    if pair is None and settings.text_column is None and PAIRS.get(text) in table.columns:
        pair = PAIRS[text]
    label = settings.label_column or _first_of(table, LABELS, "label-column")
    return Examples(
        _texts(table, text),
        None if pair is None else _texts(table, pair),
        [_label(table, row, value) for row, value in enumerate(table.column(label), 1)],
    )


def _first_of(table: TextTable, names: tuple[str, ...], option: str) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise SelectionError(f"{table.missing(' or '.join(map(repr, names)))}; or say which it is with --{option}")


def _texts(table: TextTable, column: str) -> list[str]:
    texts = table.column(column)
    for row, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise FileContentError(table.path, f"row {row} has no text in column {column!r}; got {reprlib.repr(text)}")
        _require_characters(table, row, text)
    return texts


def _require_characters(table: TextTable, row: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON may contain a lone surrogate
        raise FileContentError(
            table.path,
            f"row {row} has a surrogate alone, U+{ord(text[error.start]):X}, which is no character: "
            f"{reprlib.repr(text)}",
        ) from error


def _label(table: TextTable, row: int, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = "" if value is None else str(value).strip()
    if not label or (isinstance(value, float) and not math.isfinite(value)):
        raise FileContentError(table.path, f"row {row} has no label")
    if not isinstance(value, (str, int, float)):
        raise FileContentError(
            table.path, f"row {row} has a label that is neither text nor a number: {reprlib.repr(value)}"
        )
    _require_characters(table, row, label)
    return label


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _are_measures(labels: list[str], file: str) -> bool:
    """Return whether labels are measured values, such as 3.8, rather than names of classes, such as 0 and 1."""
    numbers = [_number(label) for label in labels]
    measured = [row for row, number in enumerate(numbers) if number is not None and number != round(number)]
    if measured and None in numbers:
        row = numbers.index(None)
        raise InvalidValueError(
            file,
            f"row {row + 1} has the label {reprlib.repr(labels[row])}, row {measured[0] + 1} "
            f"{reprlib.repr(labels[measured[0]])}: measured labels have to be numbers throughout. If they are names of "
            "classes, say so with --metric accuracy",
        )
    return bool(measured)


def _class_names(labels: list[str]) -> list[str]:
    names = set(labels)
    by_number = all(_number(name) is not None for name in names)
    return sorted(names, key=lambda name: (_number(name) if by_number else 0.0, name))


def _numbers(labels: list[str], names: list[str] | None, file: str) -> list[Any]:
    if names is None:
        values = [_number(label) for label in labels]
        for row, value in enumerate(values, 1):
            if value is None or abs(value) > _FLOAT32_MAX:
                got = reprlib.repr(labels[row - 1])
                raise InvalidValueError(file, f"regression needs numbers in float32 as labels; row {row} has {got}")
        return values
    class_numbers = {name: index for index, name in enumerate(names)}
    for row, label in enumerate(labels, 1):
        if label not in class_numbers:
            shown = ", ".join(map(reprlib.repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise InvalidValueError(
                file,
                f"row {row} has the label {reprlib.repr(label)}, which never occurs in the training data; "
                f"its labels are {shown}",
            )
    return [class_numbers[label] for label in labels]
