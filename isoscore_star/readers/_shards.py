"""Several files that together are one array: their rows follow one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.readers._errors import FileContentError
from isoscore_star.readers._names import listed
from isoscore_star.readers._source import ArraySource, Block, block_rows, blocks_after, joined

_SHOWN_NOTES = 3
_LEAST_PART = 4
"""Blocks of at least this part of the usual number of rows are not joined to others, which would copy them."""


@dataclass(frozen=True)
class ShardedSource:
    """The rows of several sources, one after another.

    Attributes
    ----------
    name, notes :
        See `isoscore_star.readers.ArraySource`.
    shards : tuple of ArraySource
        Of the same shape but for the first axis, and of the same columns.
    """

    name: str
    shards: tuple[ArraySource, ...]
    notes: tuple[str, ...] = ()
    _counts: dict[int, int] = field(default_factory=dict, repr=False, compare=False)  # of points, by shard

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The first axis counts the rows of all; see `isoscore_star.readers.ArraySource`."""
        lengths = [shard.shape[0] for shard in self.shards]
        length = None if None in lengths else sum(map(int, lengths))  # type: ignore[arg-type]
        return (length, *_filled(self.shards).shape[1:])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, of tables; see `isoscore_star.readers.ArraySource`."""
        return self.shards[0].columns

    def blocks(self) -> Iterator[Block]:
        """Return the points in blocks; see `isoscore_star.readers.ArraySource`."""
        return self.blocks_after(0)

    def blocks_after(self, skip: int) -> Iterator[Block]:
        """Return the blocks after those of the first `skip` rows; files that are skipped whole are not read."""
        least = block_rows(int(self.shape[-1] or 0)) // _LEAST_PART
        return joined(self._blocks_after(skip), least)

    def whole(self) -> NDArray[Any]:
        """Return the array at once."""
        return np.concatenate([shard.whole() for shard in self.shards if shard.shape[0] != 0 or len(self.shards) == 1])

    def place(self, row: int) -> tuple[str, int]:
        """Return the file that holds a point, and the point's number in it."""
        for i, shard in enumerate(self.shards):
            count = self._counts.get(i, 0)
            if row < count:
                return shard.place(row)
            row -= count
        return self.name, row

    def lengths(self) -> NDArray[np.int64] | None:
        """Return how many points each row holds, if that differs; see `isoscore_star.readers.ArraySource`."""
        parts = [part for shard in self.shards if (part := shard.lengths()) is not None]
        return np.concatenate(parts) if parts else None

    def _blocks_after(self, skip: int) -> Iterator[Block]:
        for i, shard in enumerate(self.shards):
            leading = [length for length in shard.shape[:-1] if length is not None]
            rows = prod(leading) if len(leading) == len(shard.shape) - 1 else None
            unread = 0 if rows is None else min(skip, rows)
            count, skip = unread, skip - unread
            self._counts[i] = max(count, self._counts.get(i, 0))
            if count == rows:
                continue
            for block in blocks_after(shard, unread):
                count += len(block)
                self._counts[i] = max(count, self._counts.get(i, 0))
                if skip:  # of a shard whose length only reading shows
                    skip -= len(block)
                else:
                    yield block


def sharded(name: str, shards: Sequence[ArraySource], notes: tuple[str, ...]) -> ShardedSource:
    """Join sources of the same dimensions.

    Raises
    ------
    FileContentError
        If the shape of one differs in another axis than the first, or its columns differ.
    """
    first = _filled(shards)
    for shard in shards:
        if shard.columns != first.columns:
            raise FileContentError(
                shard.name,
                f"its columns are {listed(shard.columns)}, those of {first.name} {listed(first.columns)}, and both are "
                "shards of one array. Name the columns to take (--columns), or give a pattern that leaves it out",
            )
        if shard.shape[1:] != first.shape[1:] and shard.shape[0] != 0:
            raise FileContentError(
                shard.name,
                f"has shape {shard.shape}, {first.name} {first.shape}: shards of one array differ in the first axis "
                "alone. Give a pattern that leaves it out, or each layer as a file of its own",
            )
    own = dict.fromkeys(note for shard in shards for note in shard.notes)
    more = len(own) - _SHOWN_NOTES
    said = [*list(own)[:_SHOWN_NOTES], *([f"and {more:,} more such notes on its files"] if more > 0 else [])]
    return ShardedSource(name, tuple(shards), (*notes, *said))


def require_parallel(what: str, ours: ArraySource, points: ArraySource) -> None:
    """Require that shards of entries that belong to points are as long as those, if there are as many of both."""
    if not (isinstance(ours, ShardedSource) and isinstance(points, ShardedSource)):
        return
    if len(ours.shards) != len(points.shards):
        return
    for own, its in zip(ours.shards, points.shards, strict=True):
        if None not in (own.shape[0], its.shape[0]) and own.shape[0] != its.shape[0]:
            raise FileContentError(
                own.name, f"the {what} of {its.name} has {own.shape[0]:,} rows, but that has {its.shape[0]:,}"
            )


def _filled(shards: Sequence[ArraySource]) -> ArraySource:
    """Return the first source that is not empty, which knows the length of its lists."""
    return next(
        (shard for shard in shards if prod(size or 1 for size in shard.shape[:1]) and shard.shape[0] != 0), shards[0]
    )
