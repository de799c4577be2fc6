"""Points that come in batches and cannot be had again: measured in one pass, on the device that has them.

They are summed in R = 20 blocks of whole groups, for a standard error that leaves out each block
(`Measurement.from_blocks`).
Groups are numbered by the stream, so that both halves are those of `isoscore_star.measure` of all batches at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from isoscore_star.core.batches import Batch, batches_of, lengths_of, pieces_of
from isoscore_star.core.checks import Points, points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import Groups, groups_of
from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours
from isoscore_star.measurement import INDEPENDENT, Measurement
from isoscore_star.readers import Farthest, free_memory
from isoscore_star.streams._blocks import Block, block_for, is_on_device
from isoscore_star.streams._farthest import take_farthest

BLOCKS = 20
"""R: a variance of R terms is known to √(2/(R - 1)), a third of it."""

_WATCHED_ROWS = 8192
"""Rows of a device that are copied to the host, to see whether they are tokens of sequences."""


class BatchedCloud:
    """A cloud whose points come in batches.

    Attributes
    ----------
    blocks : int
        R, as many of d² numbers each (of groups 2·d²) as half of the free memory holds, at most 20.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star.streams import BatchedCloud
    >>> rng = np.random.default_rng(0)
    >>> cloud = BatchedCloud().take(rng.normal(size=(100, 8)) for _ in range(50))
    >>> measured = cloud.measurement()
    >>> measured.count, measured.standard_error < 0.01
    (5000, True)
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._sizes: list[int] = []
        self._group_count = 0
        self._taken: str | None = None
        self._neighbours, self._watched = Neighbours(), 0
        self._dim: int | None = None
        self._farthest = Farthest()

    @property
    def blocks(self) -> int:
        """Number of blocks; 0 before the first batch."""
        return len(self._blocks)

    def take(self, stream: Iterable[Any], groups: Any = "auto") -> BatchedCloud:
        """Take in all batches of a stream.

        Parameters
        ----------
        stream : iterable
            Of batches, see `isoscore_star.Moments.update`.
        groups : "auto", int or None, default "auto"
            Which points of a batch were sampled together; labels come with their batch.

        Returns
        -------
        BatchedCloud
            This object.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            As `isoscore_star.Moments.update`; the message counts the batches.
        """
        for number, batch in enumerate(batches_of(stream, groups)):
            try:
                self._take(batch)
            except (InvalidValueError, InvalidTypeError) as error:
                raise error.about(f"X, batch {number} (counted from 0)") from error
        return self

    def measurement(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> Measurement:
        """Measure the points so far, see `isoscore_star.measure`.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If there was no batch; as `isoscore_star.isoscore_star`.
        """
        if not self._blocks:
            raise InvalidValueError("X", "expected at least one batch of points; got none")
        moments = [block.moments() for block in self._blocks]
        grouped = self._taken != INDEPENDENT
        measured = Measurement.from_blocks(
            moments,
            longest=self._farthest.rows,
            shrinkage_cov=shrinkage_cov,
            zeta=zeta,
            neighbours=None if grouped else self._neighbours,
        )
        if not grouped:
            return measured
        count = sum(block.groups_with_points for block in moments)
        return replace(measured, groups=str(self._taken), group_count=count)

    def _take(self, batch: Batch) -> None:
        cloud = points(batch.X, batch.mask)
        if self._dim not in (None, cloud.dim):
            raise InvalidValueError("X", f"this cloud is of {self._dim} dimensions; got points of {cloud.dim}")
        self._dim = cloud.dim
        found = groups_of(cloud, batch.groups)
        taken = INDEPENDENT if found is None else "labels" if found.axis is None else f"axis {found.axis}"
        if self._taken not in (None, taken):
            raise InvalidValueError(
                "groups", f"batches of one cloud have groups alike; got {taken} after {self._taken}"
            )
        self._taken = taken
        if not self._blocks:
            self._blocks = [block_for(cloud) for _ in range(_affordable(cloud.dim, grouped=found is not None))]
            self._sizes = [0] * len(self._blocks)
        try:
            self._add(batch, found)
        except InvalidValueError:
            Moments().update(*batch)  # raises with the row of the batch, not with that of its piece
            raise
        self._watch(cloud, independent=found is None)

    def _add(self, batch: Batch, found: Groups | None) -> None:
        lengths = lengths_of(batch)
        pieces: Iterable[Batch] = [batch]
        if len(set(lengths)) == 1 and (found is None or found.axis == 0):
            # The first batches are cut, so that a few large ones fill all blocks.
            pieces = pieces_of(batch, max(1, -(-max(lengths[0], sum(self._sizes)) // len(self._blocks))))
        for piece in pieces:
            smallest = int(np.argmin(self._sizes))
            block, length = self._blocks[smallest], lengths_of(piece)[0]
            if found is not None:
                block.count_on(self._group_count)
                self._group_count += length if found.axis == 0 else int(found.count)
            block.update(piece)
            self._sizes[smallest] += length

    def _watch(self, cloud: Points, *, independent: bool) -> None:
        on_device = is_on_device(cloud)
        take_farthest(self._farthest, cloud, on_device=on_device)
        if independent and (not on_device or self._watched < _WATCHED_ROWS):
            for rows in cloud.rows():
                self._neighbours.take(rows)
                self._watched += len(rows)


def _affordable(dim: int, *, grouped: bool) -> int:
    """Return how many blocks half of the free memory holds."""
    free = free_memory()
    size = 8 * dim * dim * (2 if grouped else 1)
    return BLOCKS if free is None else max(1, min(BLOCKS, free // 2 // size))
