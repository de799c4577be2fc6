"""What is compared: clouds whose points can be had again, in memory or in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks
from isoscore_star.core.errors import InvalidValueError, IsoScoreError
from isoscore_star.core.groups import Groups, groups_of, numbers_of
from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours
from isoscore_star.measurement import INDEPENDENT

Numbers = NDArray[np.int64]
Rows = NDArray[Any]
Block = tuple[Rows, Numbers | None]
Blocks = Iterable[Block]


@dataclass(frozen=True, eq=False)
class Stream:
    """A cloud of any size: its moments, and its points once more in blocks.

    Attributes
    ----------
    moments : Moments
        Of all points.
    blocks : callable
        Returns the same points in order, in pairs of an array of shape (n, d) and the numbers of its rows' groups in
        the moments (None if the points are independent).
    kept : ndarray of bool, optional
        Which rows of the array that the points came from are points; None for all of them. Rows of two clouds
        correspond if it is the same for both.
    groups : str, default "independent points"
        What was taken for groups.
    labels : ndarray, optional
        What the groups are known by, in the order of their numbers; None if by their numbers, up to the last in the
        moments.
    neighbours : Neighbours, optional
        Of independent points; see `Measurement.from_moments`.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star.comparison import Stream
    >>> points = np.random.default_rng(0).normal(size=(1000, 8))
    >>> stream = Stream(iso.Moments().update(points), lambda: ((block, None) for block in np.split(points, 10)))
    >>> iso.compare(stream, points * 2).rows[0].differs
    False
    """

    moments: Moments
    blocks: Callable[[], Blocks]
    kept: NDArray[np.bool_] | None = None
    groups: str = INDEPENDENT
    labels: NDArray[Any] | None = None
    neighbours: Neighbours | None = None

    def places(self) -> NDArray[np.bool_]:
        """Return which rows are points."""
        return np.ones(self.moments.count, bool) if self.kept is None else self.kept

    def names(self) -> NDArray[Any]:
        """Return what the groups are known by."""
        return np.arange(self.moments.group_count or 0) if self.labels is None else self.labels


def stream_of(name: str, X: Any, mask: Any, groups: Any) -> Stream:
    """Take in points of any framework."""
    try:
        cloud = checks.points(X, mask)
        found = groups_of(cloud, groups)
        moments = Moments().update(X, mask, groups)
    except IsoScoreError as error:
        raise _about(error, name) from error
    rows = cloud.rows()
    numbers = None if found is None else numbers_of(cloud, found)
    neighbours = None
    if found is None:
        neighbours = Neighbours()
        for part in rows:
            neighbours.start_cloud()
            neighbours.take(part)

    def blocks() -> Iterator[Block]:
        start = 0
        for part in rows:
            yield part, None if numbers is None else numbers[start : start + len(part)]
            start += len(part)

    return Stream(
        moments,
        blocks,
        _kept(cloud),
        INDEPENDENT if found is None else "labels" if found.axis is None else f"axis {found.axis}",
        _labels(found, cloud, groups),
        neighbours,
    )


def in_step(first: Blocks, second: Blocks) -> Iterator[tuple[Rows, Numbers | None, Rows, Numbers | None]]:
    """Return rows of two clouds with their groups, cut at the same places.

    Raises
    ------
    InvalidValueError
        If one has more rows than the other.
    """
    streams = iter(first), iter(second)
    ours, its = map(_next, streams)
    while ours is not None and its is not None:
        length = min(len(ours[0]), len(its[0]))
        yield *_cut(ours, slice(length)), *_cut(its, slice(length))
        ours, its = (
            _cut(block, slice(length, None)) if len(block[0]) > length else _next(stream)
            for block, stream in zip((ours, its), streams, strict=True)
        )
    if ours is not None or its is not None:
        raise InvalidValueError(
            "one cloud has more points than the other now, and had as many before. Were they changed?"
        )


def _next(stream: Iterator[Block]) -> Block | None:
    return next((block for block in stream if len(block[0])), None)


def _cut(block: Block, part: slice) -> Block:
    return block[0][part], None if block[1] is None else block[1][part]


def _kept(cloud: checks.Points) -> NDArray[np.bool_] | None:
    if all(mask is None for mask in cloud.masks):
        return None
    to_numpy = cloud.backend.to_numpy
    parts = [
        np.ones(len(to_numpy(points)), bool) if mask is None else to_numpy(mask)
        for points, mask in zip(cloud.clouds, cloud.masks, strict=True)
    ]
    return np.concatenate(parts)


def _labels(found: Groups | None, cloud: checks.Points, groups: Any) -> NDArray[Any] | None:
    """Return the distinct labels as `isoscore_star.core.groups` numbers them: in their order."""
    if found is None or found.axis is not None:
        return None
    given = list(groups) if isinstance(groups, (list, tuple)) and len(cloud.arrays) > 1 else [groups]
    to_numpy, known = cloud.backend.to_numpy, (list, tuple, np.ndarray)
    flat = [np.asarray(part if isinstance(part, known) else to_numpy(part)) for part in given]
    return np.unique(np.concatenate([part.reshape(-1) for part in flat]))


def _about(error: IsoScoreError, name: str) -> IsoScoreError:
    return error.about(name) if error.argument == "X" else type(error)(f"{name}: {error}")
