"""Tables whose rows are points: a column of lists, or all columns that hold numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star._errors import InvalidValueError
from isoscore_star.readers._source import Block, block_rows, joined


@dataclass(frozen=True)
class TableSource:
    """Points from the record batches of a table.

    Attributes
    ----------
    name, shape, notes :
        See `isoscore_star.readers.ArraySource`.
    batches : callable
        Reads the table from its start, in batches of about as many rows as it is told.
    points : callable
        Turns a batch into an array of shape (n, d).
    """

    name: str
    shape: tuple[int | None, int]
    batches: Callable[[int], Iterable[Any]]
    points: Callable[[Any], Block]
    notes: tuple[str, ...] = ()

    def blocks(self) -> Iterator[Block]:
        """Give the points in blocks; see `isoscore_star.readers.ArraySource`."""
        rows = block_rows(self.shape[1])
        return joined((self.points(batch) for batch in self.batches(rows) if batch.num_rows), rows)

    def whole(self) -> NDArray[Any]:
        """Give the table at once."""
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.empty((0, self.shape[1]))


def stacked(batch: Any, name: str, labels: list[str]) -> Block:
    """Make points of a batch whose columns are their dimensions."""
    for label, column in zip(labels, batch.columns, strict=True):
        _no_missing(column, name, label)
    return np.column_stack([column.to_numpy(zero_copy_only=False) for column in batch.columns])


def unpacked(batch: Any, name: str, label: str, dim: int) -> Block:
    """Make points of a batch whose one column holds them as lists."""
    column = batch.column(0)
    _no_missing(column, name, label)
    values = column.flatten()
    _no_missing(values, name, label)
    lengths = set(column.value_lengths().to_pylist()) if hasattr(column, "value_lengths") else {dim}
    if lengths != {dim}:
        raise InvalidValueError(
            f"{name}: points need the same number of dimensions; got lists of {sorted(lengths | {dim})}"
        )
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(-1, dim)


def _no_missing(column: Any, name: str, label: str) -> None:
    if column.null_count:
        raise InvalidValueError(
            f"{name}: column {label!r} has missing values (empty or null). Remove their rows, or fill them"
        )


def ignored(columns: list[str], why: str) -> tuple[str, ...]:
    """Say which columns are left out, if any."""
    shown = ", ".join(map(repr, columns[:5])) + (f" and {len(columns) - 5} more" if len(columns) > 5 else "")
    return (f"ignored {why}: {shown}",) if columns else ()
