"""Files that the workers of a Dask cluster read and measure together, each its share of files and ranges of rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, Measurement, MissingDependencyError
from isoscore_star.distributed_arrays import Block, measured_pieces
from isoscore_star.readers import ArraySource, Cloud, DenseSource, RowGroups, open_clouds

_PIECES = 16
"""Ranges of rows for each worker: with a lost worker a few of them are lost, and the last ones are waited for."""

_LEAST_ROWS = 8192
"""Of a range, since every range makes sums of d² numbers."""

Opened = tuple[tuple[str, Any], ...]
"""Arguments of `open_clouds`, by which a worker opens the same sources."""


def opened_by(files: Sequence[str | Path], **options: Any) -> Opened:
    """Return how a worker opens files: by their whole names, which all workers have to see.

    Parameters
    ----------
    files : sequence of str or Path
        See `isoscore_star.readers.open_clouds`.
    **options
        Its other arguments, but those for mask and groups, which are sent with each range of rows.
    """
    settled = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    return (("files", tuple(map(_whole_name, files))), *sorted(settled.items()))


@contextmanager
def cluster(workers: int | None = None, scheduler: str | None = None) -> Iterator[Any]:
    """Start worker processes on this machine, or connect to the scheduler of a cluster.

    Parameters
    ----------
    workers : int, optional
        Processes of one thread each; they end with the context.
    scheduler : str, optional
        Address of a running scheduler, such as ``"tcp://10.0.0.1:8786"``.

    Yields
    ------
    distributed.Client
        Tasks run there as long as the context lasts.

    Raises
    ------
    MissingDependencyError
        If Dask is not installed.
    InvalidValueError
        If no scheduler answers, or a worker ends again and again, as one whose memory is too small does.
    """
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ModuleNotFoundError:
        raise MissingDependencyError(
            'workers of a cluster need dask and distributed, which are not installed: pip install "isoscore-star[dask]"'
        ) from None
    started: Any = None
    try:
        if scheduler is None:
            # Errors come back to this process; workers would log them, too.
            started = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            )
        try:
            client = Client(started if scheduler is None else scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise InvalidValueError(
                "scheduler", f"no scheduler of Dask answers at {scheduler!r} ({error or type(error).__name__})"
            ) from error
        with client:
            yield client
    except KilledWorker as error:
        raise InvalidValueError(
            "workers",
            f"{error.allowed_failures + 1} workers ended while they had the same task, as they do when they run out of "
            "memory. Take fewer workers, or give them more memory",
        ) from error
    finally:
        if started is not None:
            started.close()


def measure_on_cluster(
    clouds: Sequence[Cloud],
    opened: Opened,
    workers: int,
    shrinkage_cov: Any = None,
    zeta: float = 0.0,
    *,
    first: int = 0,
    unbiased: bool = False,
) -> Measurement:
    """Measure the union of clouds, whose files the workers of the current cluster read.

    Parameters
    ----------
    clouds : sequence of Cloud
        Of `open_clouds`, in its order, or a single one of them, whose number there is `first`.
    opened : Opened
        How to open them again; see `opened_by`.
    workers : int
        How many workers there are, by which arrays are cut into ranges of rows. The result does not hang on it.
    shrinkage_cov, zeta :
        See `isoscore_star.measure`.
    first : int, default 0
        The number of the first cloud among those that are opened.
    unbiased : bool, default False
        Raise where the unbiased score is not defined, in place of None.

    Returns
    -------
    Measurement
        As of `isoscore_star.measure`; of many independent points the standard error is that of a sample.

    Raises
    ------
    IsoScoreError
        As `isoscore_star.readers.StreamedCloud.take`; the message names the file.
    """
    dim = int(clouds[0].source.shape[-1] or 0)
    pieces = list(_pieces(clouds, first, opened, workers))
    taken = None if clouds[0].groups is None else clouds[0].groups.taken
    found = measured_pieces(pieces, dim, taken)
    if unbiased:
        found.moments.isoscore_unbiased()
    measured = Measurement.from_moments(
        found.moments, found.rows, None, shrinkage_cov, zeta, neighbours=found.neighbours
    )
    return measured if taken is None else replace(measured, groups=taken)


@dataclass(frozen=True, eq=False)
class FileRows:
    """Rows of a file that a worker opens; see `isoscore_star.distributed_arrays.Piece`.

    Attributes
    ----------
    name : str
        The file.
    cloud : int
        Numbers the files, so that each row has a number of its own.
    opened : Opened
        How to open it.
    place : tuple of int
        The number of the cloud and that of the file among its shards.
    entries : tuple of int or None
        First entry of the leading axis and the one after the last; None for a source that is read from its start.
    start, before : int
        Points of the file before these, and points of the cloud before the file.
    mask : ndarray of bool or None
        Of these rows.
    groups : RowGroups or None
        Of all rows of the cloud or, where each has a number, of these.
    """

    name: str
    cloud: int
    opened: Opened
    place: tuple[int, int]
    entries: tuple[int, int] | None
    start: int
    before: int
    mask: NDArray[np.bool_] | None
    groups: RowGroups | None

    def count(self) -> int:
        """Return the number of rows, for which a file that does not tell is read."""
        source = self._source()
        if None not in source.shape:
            return math.prod(map(int, source.shape[:-1]))  # type: ignore[arg-type]
        return sum(map(len, source.blocks()))

    def blocks(self) -> Iterator[Block]:
        """Read the rows, in blocks."""
        first, labels = 0, None if self.groups is None else self.groups.numbers
        for rows in self._source().blocks():
            stop = first + len(rows)
            for what, entries in (("mask", self.mask), ("labels", labels)):
                if entries is not None and len(entries) < stop:
                    raise InvalidValueError(self.name, f"has more points than the {len(entries)} entries of the {what}")
            mask = None if self.mask is None else self.mask[first:stop]
            numbers = None
            if self.groups is not None:
                shift = self.before + self.start if labels is None else 0
                numbers = self.groups.of(first + shift, stop + shift)
            yield Block(self.start + first, rows, mask, numbers)
            first = stop
        for what, entries in (("mask", self.mask), ("labels", labels)):
            if entries is not None and first < len(entries):
                raise InvalidValueError(self.name, f"has {first} points, but the {what} {len(entries)} entries")

    def _source(self) -> ArraySource:
        number, shard = self.place
        source = _shards(_sources(self.opened)[number])[shard]
        if self.entries is None or not isinstance(source, DenseSource):
            return source
        return _entries(source, *self.entries)


def _pieces(clouds: Sequence[Cloud], first: int, opened: Opened, workers: int) -> Iterator[FileRows]:
    """Cut the files of clouds into ranges of rows; one that can only be read from its start is left whole."""
    files = [
        (number, cloud, shard, source)
        for number, cloud in enumerate(clouds, first)
        for shard, source in enumerate(_shards(cloud.source))
    ]
    most = sum(_points(source) or 0 for *_, source in files) // (_PIECES * workers)
    before: dict[int, int] = {}
    for place, (number, cloud, shard, source) in enumerate(files):
        count, start = _points(source), before.get(number, 0)
        before[number] = start + (count or 0)
        for entries in _ranges(source, max(most, _LEAST_ROWS)):
            inner = math.prod(map(int, source.shape[1:-1])) if entries else 0  # type: ignore[arg-type]
            offset, stop = (0, count) if entries is None else (entries[0] * inner, entries[1] * inner)
            rows = slice(start + offset, None if stop is None else start + stop)
            mask = None if cloud.mask is None else cloud.mask.reshape(-1)[rows]
            groups = cloud.groups
            if groups is not None and groups.numbers is not None:
                groups = replace(groups, numbers=groups.numbers[rows])
            yield FileRows(source.name, place, opened, (number, shard), entries, offset, start, mask, groups)


def _shards(source: ArraySource) -> Sequence[ArraySource]:
    """Return the files of several that are one array, or a source itself, as where only reading shows their rows."""
    shards: Sequence[ArraySource] = getattr(source, "shards", ()) or (source,)
    return (source,) if None in map(_points, shards) else shards


def _points(source: ArraySource) -> int | None:
    leading = source.shape[:-1]
    return None if None in leading else math.prod(map(int, leading))  # type: ignore[arg-type]


def _ranges(source: ArraySource, most: int) -> Iterator[tuple[int, int] | None]:
    """Return ranges of the leading axis of about so many points; None for all that is read from its start."""
    if not isinstance(source, DenseSource) or not source.shape[0]:
        yield None
        return
    length, inner = source.shape[0], math.prod(source.shape[1:-1])
    step = max(1, most // max(1, inner))
    yield from ((first, min(first + step, length)) for first in range(0, length, step))


def _entries(source: DenseSource, first: int, last: int) -> DenseSource:
    """Return a source of a range of the leading axis."""

    def read(index: tuple[int | slice, ...]) -> NDArray[Any]:
        if not index:
            return source.read((slice(first, last),))
        leading, *rest = index
        if isinstance(leading, slice):
            start, stop, step = leading.indices(last - first)
            return source.read((slice(first + start, first + stop, step), *rest))
        return source.read((first + leading, *rest))

    return DenseSource(source.name, (last - first, *source.shape[1:]), read)


def _whole_name(file: str | Path) -> str | Path:
    """Return the absolute name of a file, a folder or a pattern, since workers may be in another folder; else it."""
    first = (Path(file).parts or ("",))[0]
    return Path(file).absolute() if Path(first).exists() or set(first) & set("*?[") else file


@lru_cache(maxsize=8)
def _sources(opened: Opened) -> list[ArraySource]:
    """Open all sources, once in each worker."""
    options: Mapping[str, Any] = dict(opened)
    try:
        return [cloud.source for cloud in open_clouds(**options)]
    except OSError as error:
        raise InvalidValueError(
            "files", f"a worker cannot open what this process could ({error}). All workers have to see the same files"
        ) from error
