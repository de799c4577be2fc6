"""From arrays and data frames to chunks: which rows, mask and labels a task gets, and where its chunk lies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import ALLOWED, groups_of
from isoscore_star.core.registry import backend_of
from isoscore_star.distributed_arrays._frames import column_of, dimensions_of
from isoscore_star.distributed_arrays._recognised import is_column, is_dask, is_frame
from isoscore_star.distributed_arrays._tree import named, together

Sizes = tuple[tuple[float, ...], ...]
"""Sizes of the chunks along each axis; NaN where only computing a chunk shows it."""


class Place(NamedTuple):
    """Where a chunk lies in its cloud.

    Attributes
    ----------
    name : str
        For messages.
    starts : tuple of int or None
        Its first index along each leading axis; None where sizes of chunks are not known.
    shape : tuple of int or None
        Leading axes of the cloud.
    before : int
        Points of the clouds before this one, masked ones included.
    """

    name: str
    starts: tuple[int, ...] | None
    shape: tuple[int, ...] | None
    before: int

    def is_whole(self, shape: Sequence[int]) -> bool:
        """Return whether a chunk of these leading axes holds all of every axis but the first, so that rows follow."""
        return self.shape is not None and tuple(shape[1:]) == self.shape[1:]

    def numbers(self, shape: Sequence[int]) -> NDArray[np.uint64]:
        """Return the number of each row of the chunk, of these leading axes, in the union of all clouds, flat."""
        numbers: Any = np.zeros((), np.uint64)
        for start, length, size in zip(self.starts or (), self.shape or (), shape, strict=True):
            numbers = numbers[..., None] * np.uint64(length) + np.arange(start, start + size, dtype=np.uint64)
        return np.asarray(numbers + np.uint64(self.before)).reshape(-1)


class Chunk(NamedTuple):
    """What a task gets: rows, mask and labels, which are tasks themselves, and the place."""

    rows: Any
    mask: Any
    labels: Any
    place: Place


@dataclass(frozen=True, eq=False)
class Grid:
    """The chunks of an array, whose last axis (of points) is whole, or of a data frame.

    Attributes
    ----------
    name : str
        The argument, for messages.
    blocks : ndarray of object
        A task for each chunk, by its place along the leading axes.
    sizes : tuple of tuple
        See `Sizes`.
    """

    name: str
    blocks: NDArray[Any]
    sizes: Sizes

    @property
    def known(self) -> bool:
        return not any(math.isnan(size) for axis in self.sizes for size in axis)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return tuple(int(sum(axis)) for axis in self.sizes) if self.known else None

    def counted(self) -> Grid:
        """Return the same with known sizes, for which chunks of unknown ones are computed."""
        if self.known:
            return self
        along = [
            self.blocks[(0,) * axis + (slice(None),) + (0,) * (self.blocks.ndim - axis - 1)]
            for axis in range(self.blocks.ndim)
        ]
        tasks = named("isoscore-count", _shape, ((block,) for blocks in along for block in blocks))
        shapes = iter(together(tasks))
        sizes = tuple(tuple(next(shapes)[axis] for _ in blocks) for axis, blocks in enumerate(along))
        return Grid(self.name, self.blocks, sizes)


@dataclass(frozen=True, eq=False)
class Cloud:
    """A cloud with its mask and labels, in the same chunks."""

    points: Grid
    mask: Grid | None
    labels: Grid | None

    def chunks(self, before: int) -> Iterator[Chunk]:
        """Return its chunks, in order."""
        points, shape = self.points, self.points.shape
        edges = [np.cumsum([0, *axis]).tolist() for axis in points.sizes] if points.known else None
        for index in np.ndindex(points.blocks.shape):
            starts = None if edges is None else tuple(int(axis[i]) for axis, i in zip(edges, index, strict=True))
            where = index[0] if len(index) == 1 else index
            name = f"{points.name}, chunk {where}" + (f" (from row {starts[0]} on)" if starts else "")
            mask, labels = (None if grid is None else grid.blocks[index] for grid in (self.mask, self.labels))
            yield Chunk(points.blocks[index], mask, labels, Place(name, starts, shape, before))


class Union(NamedTuple):
    """Clouds whose union is measured.

    Attributes
    ----------
    clouds : list of Cloud
        In order.
    axis : int or None
        The axis of the groups, if they are those of an axis.
    dim : int or None
        Dimensions; None where only computing a chunk shows them.
    """

    clouds: list[Cloud]
    axis: int | None
    dim: int | None

    @property
    def taken(self) -> str | None:
        """What was taken for groups; None for independent points."""
        return f"axis {self.axis}" if self.axis is not None else None if self.clouds[0].labels is None else "labels"

    def counted(self) -> Union:
        """Return the same with known sizes of all chunks."""
        return self._replace(clouds=[Cloud(one.points.counted(), one.mask, one.labels) for one in self.clouds])

    @property
    def size(self) -> int:
        """Number of points, masked ones included, of a union that is counted."""
        return sum(math.prod(cloud.points.shape or ()) for cloud in self.clouds)

    def chunks(self) -> list[Chunk]:
        """Return the chunks of all clouds, in order."""
        found, before = list[Chunk](), 0
        for cloud in self.clouds:
            found += cloud.chunks(before)
            before += math.prod(cloud.points.shape or ())
        return found


def union_of(X: Any, mask: Any, groups: Any) -> Union:
    """Check X, mask and groups, without their values, and bring them to the same chunks."""
    several = isinstance(X, (list, tuple))
    items = list(X) if several else [X]
    names = [f"X[{i}]" for i in range(len(items))] if several else ["X"]
    for name, item in zip(names, items, strict=True):
        if not is_dask(item):
            raise InvalidTypeError(
                name,
                "the clouds of one union are all arrays or data frames of Dask, or none is; got "
                f"{type(item).__module__}.{type(item).__qualname__}. Convert it by dask.array.from_array",
            )
    masks = _for_each("mask", mask, items, several)
    labels = _for_each("groups", groups, items, several) if _is_labels(groups, items) else [None] * len(items)
    companions = [
        (_companion("mask", own_mask, item), _companion("groups", own_labels, item))
        for own_mask, own_labels, item in zip(masks, labels, items, strict=True)
    ]
    # A column that is given as labels or mask is no dimension, whether it is named or handed over.
    others = [
        [one if isinstance(one, str) else one.name for one in pair if isinstance(one, str) or is_column(one)]
        for pair in zip(masks, labels, strict=True)
    ]
    found = [_points(name, item, other) for name, item, other in zip(names, items, others, strict=True)]
    dims = {dim for _, dim, _ in found if dim is not None}
    if len(dims) > 1:
        raise InvalidValueError(
            "X", f"the clouds of one union need the same number of dimensions (last axis); got {sorted(dims)}"
        )
    clouds = [_aligned(grid, *own) for (grid, _, _), own in zip(found, companions, strict=True)]
    # What groups along an axis are, and the messages for all others, is asked of arrays of these shapes without values.
    stand_ins = [stand_in for _, _, stand_in in found]
    axis_of = groups_of(checks.points(stand_ins if several else stand_ins[0]), groups) if labels[0] is None else None
    axis = None if axis_of is None else axis_of.axis
    if axis is not None:
        clouds = [Cloud(cloud.points.counted(), cloud.mask, cloud.labels) for cloud in clouds]
    return Union(clouds, axis, dims.pop() if dims else None)


def _is_labels(groups: Any, items: list[Any]) -> bool:
    """Return whether groups are labels, or the name of a column with them, and no axis, word or None."""
    if isinstance(groups, str):
        return groups != "auto" and all(is_frame(item) for item in items)
    if isinstance(groups, (list, tuple)):
        return True
    return groups is not None and np.ndim(groups) > 0


def _for_each(argument: str, given: Any, items: list[Any], several: bool) -> list[Any]:
    found = list(given) if several and isinstance(given, (list, tuple)) else [given] * len(items)
    if len(found) != len(items):
        raise InvalidValueError(argument, f"expected one for each of the {len(items)} clouds; got {len(found)}")
    return found


def _points(name: str, item: Any, others: list[str]) -> tuple[Grid, int | None, NDArray[Any]]:
    """Return the chunks of points, their dimensions, and an array of their shape without values."""
    if is_frame(item):
        frame, dim = dimensions_of(name, item, others)
        grid = _grid(name, frame)
        stand_in: NDArray[Any] = np.broadcast_to(0.0, (2, dim or 2))
        checks.points(stand_in)
        return grid, dim, stand_in
    if not hasattr(item, "chunks"):
        raise InvalidTypeError(
            name, f"expected an array or a data frame of Dask; got its {type(item).__name__}, whose shape is not known"
        )
    shape = tuple(2 if math.isnan(size) else int(size) for size in item.shape)
    stand_in = np.broadcast_to(np.zeros((), item.dtype), shape)
    checks.check_array(name, stand_in, backend_of(stand_in))
    return _grid(name, _whole_points(name, item), last=True), shape[-1], stand_in


def _whole_points(name: str, array: Any) -> Any:
    """Return an array whose chunks hold whole points, warning of what it moves if they did not."""
    dim, widths = array.shape[-1], array.chunks[-1]
    if len(widths) == 1:
        return array
    from dask.array import PerformanceWarning

    nbytes = array.nbytes
    moved = "part of every point" if math.isnan(nbytes) else f"at least {_bytes(nbytes * (1 - max(widths) / dim))}"
    warnings.warn(
        f"{name} is cut along its dimensions, into chunks of {', '.join(map(str, widths[:4]))}"
        f"{', ...' if len(widths) > 4 else ''} of {dim}; a covariance needs whole points, so that {moved} "
        f"of {_bytes(nbytes)} move between chunks. Store or load it in chunks of rows to move nothing",
        PerformanceWarning,
        stacklevel=2,
    )
    return array.rechunk({array.ndim - 1: dim})


def _bytes(size: float) -> str:
    if math.isnan(size):
        return "an unknown number of bytes"
    unit = max(0, min(4, int(math.log(max(size, 1), 1024))))
    return f"{size / 1024**unit:.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def _companion(argument: str, given: Any, item: Any) -> Any:
    """Return a mask or labels as an array or column of Dask, or of NumPy."""
    if given is None or is_dask(given):
        if given is not None and (not hasattr(given, "ndim") or (is_frame(given) and not is_column(given))):
            raise InvalidTypeError(
                argument, f"expected an array or one column of Dask, or of NumPy; got {type(given).__name__}"
            )
        return given
    if isinstance(given, str):
        if not is_frame(item) or is_column(item):
            raise InvalidTypeError(
                argument, ALLOWED if argument == "groups" else f"expected an array of X's points; got {given!r}"
            )
        return column_of(item, given, argument)
    return backend_of(given, argument).to_numpy(given) if not isinstance(given, list) else np.asarray(given)


def _aligned(points: Grid, mask: Any, labels: Any) -> Cloud:
    """Bring mask and labels to the chunks of the points."""
    if any(given is not None and not _has_its_chunks(points, given) for given in (mask, labels)):
        points = points.counted()
    return Cloud(points, _beside(points, "mask", mask), _beside(points, "groups", labels))


def _has_its_chunks(points: Grid, given: Any) -> bool:
    """Return whether an array's chunks are those of the points, as far as can be known without counting."""
    if is_frame(given):
        return (given.npartitions,) == points.blocks.shape
    return is_dask(given) and not points.known and given.numblocks == points.blocks.shape and _unknown(given)


def _unknown(array: Any) -> bool:
    return any(math.isnan(size) for axis in array.chunks for size in axis)


def _beside(points: Grid, argument: str, given: Any) -> Grid | None:
    if given is None:
        return None
    if _has_its_chunks(points, given):
        return _grid(argument, given)
    from dask.array import from_array

    if is_frame(given):
        given = given.to_dask_array(lengths=True)
    elif is_dask(given) and _unknown(given):
        given = given.copy().compute_chunk_sizes()
    if tuple(given.shape) != points.shape:
        raise InvalidValueError(
            argument, f"expected shape {points.shape}, one entry for each point of {points.name}; got {given.shape}"
        )
    given = given if is_dask(given) else from_array(given, chunks=points.sizes)
    return _grid(argument, given.rechunk(points.sizes))


def _grid(name: str, item: Any, *, last: bool = False) -> Grid:
    """Return the tasks of the chunks of an array, or of a data frame."""
    blocks = np.asarray(item.to_delayed(), object)
    if is_frame(item):
        return Grid(name, blocks, ((math.nan,) * len(blocks),))
    return Grid(name, blocks[..., 0] if last else blocks, item.chunks[:-1] if last else item.chunks)


def _shape(block: Any) -> tuple[int, ...]:
    return tuple(map(int, block.shape))
