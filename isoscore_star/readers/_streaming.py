"""Measurement of points too many for memory: moments of all and, for the standard error, a random sample of them.

Points in groups are read a second time instead: leaving out a group takes all of its points, and the final halves. Or
they are kept in blocks of whole groups, of which each is left out: that takes one pass, and R times the memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, IsoScoreError, Measurement, Moments, Neighbours
from isoscore_star.readers._ahead import ahead
from isoscore_star.readers._farthest import Farthest
from isoscore_star.readers._groups import RowGroups
from isoscore_star.readers._source import ArraySource, Block, blocks_after

_LEAST_SAMPLE = 4096
_SAMPLE_PER_DIMENSION = 4
_RUN_POINTS = 8192
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

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the sample and its keys, for a file; the generator's state is its owner's."""
        return {"keys": self._keys, "rows": self._rows}

    def restore(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on with what `to_arrays` returned."""
        self._keys, self._rows = np.array(arrays["keys"]), np.array(arrays["rows"])

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
    neighbours : Neighbours
        Sums over neighbouring rows of independent points.

    Parameters
    ----------
    dim : int
        Dimensions of the points.
    rng : numpy.random.Generator
        Draws the sample, for the standard error of independent points: exact up to max(4096, 4·d) points (of more than
        8,192 dimensions fewer, in 2 GiB); use one for all clouds that are to be merged.
    blocks : int, optional
        Read points in groups once, and keep so many blocks of whole groups for their standard error.
    sketch : int, optional
        Columns of a sketch in place of d² numbers; see `isoscore_star.Moments`.

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

    def __init__(
        self, dim: int, rng: np.random.Generator, blocks: int | None = None, sketch: int | None = None
    ) -> None:
        self.groups: str | None = None
        self._again = blocks is None
        self._blocks = [Moments(sketch=sketch) for _ in range(blocks or 1)]
        self._run = 0  # groups that follow one another in a block
        self._farthest = Farthest()
        self._parts: list[_Part] = []  # read again for the standard error of groups
        size = max(_LEAST_SAMPLE, min(_SAMPLE_PER_DIMENSION * dim, _SAMPLE_VALUES // max(dim, 1)))
        self._sample = Reservoir(size, dim, rng)
        self.neighbours = Neighbours()

    @property
    def moments(self) -> Moments:
        """Of all points so far."""
        if len(self._blocks) == 1:
            return self._blocks[0]
        whole = copy.copy(self._blocks[0])
        for block in self._blocks[1:]:
            whole.merge_halves(block)
        return whole

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
        skip: int = 0,
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
        skip : int, default 0
            Rows of the source, up to the end of a block, that were taken before.

        Raises
        ------
        IsoScoreError
            As `Moments.update`; the message names the source, and the row within it.
        """
        part = _Part(source, mask, groups)
        if groups is not None:
            self.groups = groups.taken
            self._run = self._run or _run_of(groups, len(self._blocks))
        if not skip:
            self.neighbours.start_cloud()
        for block, keep, start, numbers in part.blocks(skip):
            rows = block if keep is None else block[keep]
            try:
                self._update(rows, numbers)
            except IsoScoreError as error:
                raise _in_file(error, source, block, keep, start) from error
            if numbers is None:
                self.neighbours.take(rows)
            if numbers is None or self._again:
                self._sample.add(rows)
            else:
                self._farthest.take(rows)
            progress(len(block))
        self._parts.append(part)

    def _update(self, rows: NDArray[Any], numbers: NDArray[np.int64] | None) -> None:
        """Give rows to their groups' blocks, in which even groups stay even."""
        if numbers is None:
            self._blocks[0].update(rows)
            return
        count, run = len(self._blocks), self._run
        blocks, own = numbers // run % count, numbers // (run * count) * run + numbers % run
        if run == 1 and count > 1:  # a block's groups are all even, or all odd
            own = 2 * (numbers // count) + numbers % 2
        for block in np.unique(blocks):
            chosen: Any = slice(None) if count == 1 else blocks == block
            self._blocks[block].update(rows[chosen], groups=own[chosen], first_group=0)

    def merge(self, other: StreamedCloud) -> None:
        """Add all points of another cloud, such as another layer; the same number is the same group."""
        for ours, its in zip(self._blocks, other._blocks, strict=True):
            ours.merge(its, same_groups=True)
        self._add_rest(other)

    def places_for(self, other: StreamedCloud) -> list[tuple[int, bool]]:
        """Return for each block of other groups which of ours takes it, and whether its halves are exchanged.

        The emptiest block takes it, and the half with fewer groups gets more of them.
        """
        sizes = [block.groups_with_points or block.count for block in self._blocks]
        excess, found = sum(map(_excess, self._blocks)), []
        for block in other._blocks:
            place = int(np.argmin(sizes))
            own = _excess(block)
            found.append((place, own * excess > 0))
            excess += -own if own * excess > 0 else own
            sizes[place] += block.groups_with_points or block.count
        return found

    def merge_others(self, other: StreamedCloud, places: list[tuple[int, bool]]) -> None:
        """Add all points of a cloud of other groups, each block in its place; see `places_for`."""
        for (place, turned), block in zip(places, other._blocks, strict=True):
            self._blocks[place].merge_halves(block.turned() if turned else block)
        self._add_rest(other)

    def _add_rest(self, other: StreamedCloud) -> None:
        self._sample.merge(other._sample)
        self.neighbours.merge(other.neighbours)
        self._farthest.merge(other._farthest)
        self._parts += other._parts
        self.groups, self._run = self.groups or other.groups, self._run or other._run

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
        if self.groups is None:
            return Measurement.from_moments(
                self.moments, self._sample.rows, None, shrinkage_cov, zeta, neighbours=self.neighbours
            )
        if self._again:
            again = lambda: self.blocks(progress)  # noqa: E731 - a function of no argument is what is expected
            measured = Measurement.from_moments(self.moments, again, None, shrinkage_cov, zeta)
        else:
            # Of an even number of groups, which keep their halves.
            blocks = [copy.copy(block).merge_halves(Moments()) for block in self._blocks if block.count]
            longest = self._farthest.rows
            if not blocks:
                return Measurement.from_moments(self.moments)  # raises, since there are no points
            measured = Measurement.from_blocks(blocks, shrinkage_cov, zeta, longest=longest)
        return replace(measured, groups=self.groups)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of a cloud that is read once, for a file; see `restore`."""
        kept: dict[str, Mapping[str, NDArray[Any]]] = {
            "sample": self._sample.to_arrays(),
            "neighbours": self.neighbours.to_arrays(),
            "farthest": self._farthest.to_arrays(),
            "run": {"": np.array(self._run)},
        }
        kept |= {f"block {number}": block.to_arrays() for number, block in enumerate(self._blocks)}
        return {f"{name}/{key}": array for name, arrays in kept.items() for key, array in arrays.items()}

    def restore(self, arrays: Mapping[str, Mapping[str, NDArray[Any]]], groups: str | None) -> None:
        """Go on, to the very bit, with what `to_arrays` returned, by the parts of its names, and with its groups."""
        self._sample.restore(arrays["sample"])
        self.neighbours = Neighbours.from_arrays(arrays["neighbours"])
        self._farthest = Farthest.from_arrays(arrays["farthest"])
        self._run, self.groups = int(arrays["run"][""]), groups
        count = sum(name.startswith("block ") for name in arrays)
        self._blocks = [Moments.from_arrays(arrays[f"block {number}"]) for number in range(count)]


@dataclass(frozen=True)
class _Part:
    """A source with its mask and groups."""

    source: ArraySource
    mask: NDArray[np.bool_] | None
    groups: RowGroups | None

    def blocks(self, skip: int = 0) -> Iterator[tuple[Block, NDArray[np.bool_] | None, int, NDArray[np.int64] | None]]:
        """Return blocks, which of their rows count, the place of the first, and the groups of those that count."""
        start, name = skip, self.source.name
        numbers = None if self.groups is None else self.groups.numbers
        for block in ahead(map(_in_memory, blocks_after(self.source, skip))):
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


def _in_memory(block: Block) -> Block:
    """Read a block that is only mapped."""
    return np.array(block) if isinstance(block, np.memmap) else block


def _excess(block: Moments) -> int:
    """Return how many more even groups with points there are than odd ones."""
    even, odd = block.groups_in_halves
    return even - odd


def _run_of(groups: RowGroups, blocks: int) -> int:
    """Return how many groups follow one another in a block: an even number, of about the points read at a time.

    Of few groups one, so that there are as many blocks as groups.
    """
    at_once = min(_RUN_POINTS // groups.size, groups.count // blocks) if groups.numbers is None else 2
    return 1 if blocks == 1 or (groups.count < 2 * blocks and blocks % 2 == 0) else max(2, at_once // 2 * 2)


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
