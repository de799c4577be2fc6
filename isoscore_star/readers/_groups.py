"""Which points of a file were sampled together: labels, one for each point, or the first of three axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidTypeError, InvalidValueError
from isoscore_star.readers._errors import FileContentError, SelectionError
from isoscore_star.readers._opening import is_table, open_array, open_column
from isoscore_star.readers._places import is_place
from isoscore_star.readers._shards import require_parallel
from isoscore_star.readers._source import ArraySource

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class RowGroups:
    """The number of each point's group, by the point's place in its cloud.

    Attributes
    ----------
    taken : str
        What was taken for groups.
    count : int
        Groups of all clouds.
    size : int
        Points of a group, if they follow one another.
    numbers : ndarray of int, optional
        Number of each point's group, if not.
    """

    taken: str
    count: int
    size: int = 1
    numbers: NDArray[np.int64] | None = None

    def of(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the numbers of a cloud's points from `start` to `stop`, or to the end of the labels."""
        if self.numbers is not None:
            return self.numbers[start:stop]
        return np.arange(start, stop) // self.size


def groups_along_axis(sources: Sequence[ArraySource]) -> list[RowGroups | None]:
    """Take the first axis of arrays of three for sequences, the same in each; points of two axes are independent."""
    axes = sorted({len(source.shape) for source in sources})
    if axes == [2]:
        return [None] * len(sources)
    if axes[-1] > 3:
        source = next(source for source in sources if len(source.shape) > 3)
        raise SelectionError(
            source.name,
            f"arrays of three axes are read as (sequences, tokens, dimensions); got shape {source.shape}. Give "
            "--by-layer if its first axis is that of layers, --groups FILE_OR_KEY with a label for each point, or "
            "--groups none for independent points",
        )
    if len(axes) > 1:
        raise SelectionError(
            "groups",
            "of arrays of three axes the first is that of sequences, those of two hold independent points; both came "
            "in one union. Give --groups FILE_OR_KEY with a label for each point, or --groups none for independent "
            "points",
        )
    lengths = [source.lengths() for source in sources]
    count = max(
        int(source.shape[0] or 0) if own is None else len(own) for source, own in zip(sources, lengths, strict=True)
    )
    if any(own is not None for own in lengths):
        return [
            RowGroups("axis 0", count, numbers=np.repeat(np.arange(len(own)), own))
            if own is not None
            else RowGroups("axis 0", count, size=max(1, prod(map(int, source.shape[1:-1]))))  # type: ignore[arg-type]
            for source, own in zip(sources, lengths, strict=True)
        ]
    return [RowGroups("axis 0", count, size=max(1, prod(map(int, source.shape[1:-1])))) for source in sources]  # type: ignore[arg-type]


def groups_by_labels(labels: Sequence[NDArray[Any]]) -> list[RowGroups | None]:
    """Take labels, numbered in their order; the same label is the same group in every cloud."""
    flat = [part.reshape(-1) for part in labels]
    if len({part.dtype.kind in "US" for part in flat}) > 1:
        flat = [part.astype(str) for part in flat]
    distinct, numbers = np.unique(np.concatenate(flat), return_inverse=True)
    parts = np.split(numbers.reshape(-1).astype(np.int64), np.cumsum([len(part) for part in flat])[:-1])
    return [RowGroups("labels", len(distinct), numbers=part) for part in parts]


def read_labels(groups: str, file: str | Path, source: ArraySource) -> NDArray[Any]:
    """Read labels from a file or, if there is none of that name, from an array or column beside the points."""
    if groups in source.columns:
        raise SelectionError(source.name, f"the groups {groups!r} count as a dimension; name the others (--columns)")
    if is_place(groups):
        labels = _column(groups, None) if is_table(groups) else _array(groups, None, source)
    else:
        try:
            labels = _column(file, groups) if is_table(file) else _array(file, groups, source)
        except SelectionError as error:
            raise SelectionError(
                f"groups {groups!r}", f"there is no such file, nor such an array in {error}"
            ) from error
    name = groups
    if labels.dtype.kind not in "biufUS":
        raise InvalidTypeError(name, f"labels of groups are integers or strings; got dtype {labels.dtype}")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise InvalidValueError(name, "labels of groups are integers or strings; got NaN. Give each point a label")
    return labels


def _array(path: str | Path, key: str | None, source: ArraySource) -> NDArray[Any]:
    labels = open_array(path, key)
    require_parallel("labels", labels, source)
    return labels.whole()


def _column(path: str | Path, name: str | None) -> NDArray[Any]:
    """Read a column; cells that are all integers are numbers, since 9 comes before 10 only then."""
    cells: list[Any] = []
    for file, own in open_column(path, name):
        missing = next((i for i, cell in enumerate(own) if cell is None or not str(cell).strip()), None)
        if missing is not None:
            raise FileContentError(
                file,
                f"row {missing} (counted from 0): the group has no label. Give each point a label, or remove the row",
            )
        cells += own
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([str(cell) for cell in cells])
