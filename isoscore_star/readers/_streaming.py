"""Measurement of points too many for memory: moments of all and, for the standard error, a random sample of them.

Points in groups are read a second time instead: leaving out a group takes all of its points, and the final halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, IsoScoreError, Measurement, Moments, Neighbours
from isoscore_star.readers._groups import RowGroups
from isoscore_star.readers._source import ArraySource, Block

_LEAST_SAMPLE = 4096
_SAMPLE_PER_DIMENSION = 4
_SAMPLE_VALUES = 2**28
"""Size (2 GiB) that samples of more than the least number of rows may have."""


class Reservoir:
    """A uniform random sample, without replacement, of rows that arrive in blocks.

    Every row gets a random key, and the rows with the smallest keys stay. So the sample is exactly uniform, holds all
    rows while they fit, and can be merged with another.

    Parameters
    ----------
    size : int
        The most rows to keep.
    dim : int
        Their width.
    rng : numpy.random.Generator
        Draws the keys; use one for all samples that are to be merged.
    """

    def __init__(self, size: int, dim: int, rng: np.random.Generator) -> None:
        self._size, self._rng = size, rng
        self._keys, self._rows = np.empty(0), np.empty((0, dim))

    @property
    def rows(self) -> NDArray[np.float64]:
        """The sample, shape (s, d), in no particular order."""
        return self._rows

    def add(self, rows: NDArray[Any]) -> None:
        """Offer the rows of a block."""
        self._offer(rows, self._rng.random(len(rows)))

    def merge(self, other: Reservoir) -> None:
        """Offer all rows that another sample was drawn from."""
        self._offer(other.rows, other._keys)

    def _offer(self, rows: NDArray[Any], keys: NDArray[np.float64]) -> None:
        room = self._size - len(self._keys)
        if room:
            self._keys, self._rows = np.append(self._keys, keys[:room]), np.concatenate([self._rows, rows[:room]])
            rows, keys = rows[room:], keys[room:]
        if not len(keys):
            return
        staying = np.argpartition(np.concatenate([self._keys, keys]), self._size - 1)[: self._size]
        new = np.sort(staying[staying >= self._size]) - self._size
        free = np.setdiff1d(np.arange(self._size), staying, assume_unique=True)
        self._rows[free], self._keys[free] = rows[new], keys[new]


class StreamedCloud:
    """A cloud that is measured block by block, in d² memory or less.

    Attributes
    ----------
    moments : Moments
        Of all points so far.
    neighbours : Neighbours
        Sums over neighbouring rows of independent points.

    Parameters
    ----------
    dim : int
        Dimensions of the points.
    rng : numpy.random.Generator
        Draws the sample, for the standard error of independent points: exact up to max(4096, 4·d) points (of more than
        8,192 dimensions fewer, in 2 GiB); use one for all clouds that are to be merged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from isoscore_star.readers import StreamedCloud, open_array
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "points.npy"), rng.normal(size=(500, 3)))
    ...     cloud = StreamedCloud(3, rng)
    ...     cloud.take(open_array(Path(folder, "points.npy")))
    >>> cloud.measurement().count
    500
    """

    def __init__(self, dim: int, rng: np.random.Generator) -> None:
        self.moments = Moments()
        self._parts: list[_Part] = []  # read again for the standard error of groups
        size = max(_LEAST_SAMPLE, min(_SAMPLE_PER_DIMENSION * dim, _SAMPLE_VALUES // max(dim, 1)))
        self._sample = Reservoir(size, dim, rng)
        self.neighbours = Neighbours()

    @property
    def sample(self) -> NDArray[np.float64]:
        """A uniform random sample of the points, all of them while they are few, shape (s, d)."""
        return self._sample.rows

    def take(
        self,
        source: ArraySource,
        mask: NDArray[np.bool_] | None = None,
        progress: Callable[[int], None] = lambda rows: None,
        groups: RowGroups | None = None,
    ) -> None:
        """Read a source to its end.

        Parameters
        ----------
        source : ArraySource
            The points.
        mask : ndarray of shape (m,), bool, optional
            True for the rows that count.
        progress : callable, optional
            Called with the number of rows after each block.
        groups : RowGroups, optional
            The number of each point's group, the same in all sources that have a part of it.

        Raises
        ------
        IsoScoreError
            As `Moments.update`; the message names the source, and the row within it.
        """
        part = _Part(source, mask, groups)
        self.neighbours.start_cloud()
        for block, keep, start, numbers in part.blocks():
            rows = block if keep is None else block[keep]
            try:
                if numbers is None:
                    self.moments.update(rows)
                else:
                    self.moments.update(rows, groups=numbers, first_group=0)
            except IsoScoreError as error:
                raise _in_file(error, source, block, keep, start) from error
            self._sample.add(rows)
            if numbers is None:
                self.neighbours.take(rows)
            progress(len(block))
        self._parts.append(part)

    def merge(self, other: StreamedCloud) -> None:
        """Add all points of another cloud, such as another layer; the same number is the same group."""
        self.moments.merge(other.moments, same_groups=True)
        self._sample.merge(other._sample)
        self.neighbours.merge(other.neighbours)
        self._parts += other._parts

    def blocks(
        self, progress: Callable[[int], None] = lambda rows: None
    ) -> Iterator[tuple[Block, NDArray[np.int64] | None]]:
        """Read all points once more: blocks of those that count, in order, and the numbers of their groups."""
        for part in self._parts:
            for block, keep, _, numbers in part.blocks():
                yield block if keep is None else block[keep], numbers
                progress(len(block))

    def measurement(
        self, shrinkage_cov: Any = None, zeta: float = 0.0, progress: Callable[[int], None] = lambda rows: None
    ) -> Measurement:
        """Measure the points so far, see `isoscore_star.measure`; those with groups are read once more."""
        if self.moments.group_count is None:
            return Measurement.from_moments(
                self.moments, self._sample.rows, None, shrinkage_cov, zeta, neighbours=self.neighbours
            )

        measured = Measurement.from_moments(self.moments, lambda: self.blocks(progress), None, shrinkage_cov, zeta)
        taken = [part.groups.taken for part in self._parts if part.groups is not None]
        return replace(measured, groups=taken[0])


@dataclass(frozen=True)
class _Part:
    """A source with its mask and groups."""

    source: ArraySource
    mask: NDArray[np.bool_] | None
    groups: RowGroups | None

    def blocks(self) -> Iterator[tuple[Block, NDArray[np.bool_] | None, int, NDArray[np.int64] | None]]:
        """Return blocks, which of their rows count, the place of the first, and the groups of those that count."""
        start, name = 0, self.source.name
        numbers = None if self.groups is None else self.groups.numbers
        for block in self.source.blocks():
            stop = start + len(block)
            for what, entries in (("mask", self.mask), ("labels", numbers)):
                if entries is not None and len(entries) < stop:
                    raise InvalidValueError(name, f"has more points than the {len(entries)} entries of the {what}")
            keep = None if self.mask is None else self.mask[start:stop]
            own = None if self.groups is None else self.groups.of(start, stop)
            yield block, keep, start, own if own is None or keep is None else own[keep]
            start = stop
        for what, entries in (("mask", self.mask), ("labels", numbers)):
            if entries is not None and start < len(entries):
                raise InvalidValueError(name, f"has {start} points, but the {what} {len(entries)} entries")


def _in_file(
    error: IsoScoreError, source: ArraySource, block: Block, keep: NDArray[np.bool_] | None, start: int
) -> IsoScoreError:
    """Return the error with the file and its row, instead of that of the block, in which a value is not finite."""
    if isinstance(error, InvalidValueError):
        bad = ~np.isfinite(block).all(axis=1)
        if keep is not None:
            bad &= keep
        if bad.any():
            name, row = source.place(start + int(np.argmax(bad)))
            return type(error)(
                "X",
                "every value has to be finite; got NaN or inf, the first in row "
                f"{row} (counted from 0). Remove such rows or mask them",
            ).about(name)
    return error.about(source.name)
