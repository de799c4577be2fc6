"""Which class each point is of: the labels that were given, checked, and the points in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError, IsoScoreError
from isoscore_star.core.groups import Groups, groups_of, numbers_of
from isoscore_star.core.messages import shown

Places = NDArray[np.int64]

_ALLOWED = (
    "expected a label for each point (an array of the shape of X without its last axis, or of its first axes), an axis "
    "of X, or None for arrays of three axes and more, in which each entry of the first axis is a cloud"
)


class Rows(NamedTuple):
    """Points as rows, of which those at `places` count."""

    array: NDArray[Any]
    places: Places

    def at(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return the points with these numbers, counted over those that count."""
        return np.asarray(self.array[self.places[numbers]])


class Classes(NamedTuple):
    """The classes that have a point, in the order of their labels, and the numbers of their points."""

    labels: NDArray[Any]
    counts: Places
    starts: Places
    order: Places
    """Numbers of the points, those of a class after each other."""

    def of_equal_counts(self, entries: int, dim: int) -> Iterator[tuple[int, Places]]:
        """Return batches of classes of n points each, with no more numbers than `entries` where several are in one.

        Of m points there are at most √(2m) different n.
        """
        by_count = np.argsort(self.counts, kind="stable")
        sizes, firsts = np.unique(self.counts[by_count], return_index=True)
        for n, same in zip(sizes.tolist(), np.split(by_count, firsts[1:]), strict=True):
            step = max(1, entries // (n * dim))
            for start in range(0, len(same), step):
                yield n, same[start : start + step]

    def points(self, which: Places, n: int) -> Places:
        """Return the numbers of the points of some classes of n points, shape (classes, n)."""
        return np.asarray(self.order[self.starts[which][:, None] + np.arange(n)])


def rows_of(cloud: Points) -> Rows:
    """Return all points as rows, without a copy of one NumPy array."""
    to_numpy = cloud.backend.to_numpy
    arrays = [to_numpy(part) for part in cloud.clouds]
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if all(mask is None for mask in cloud.masks):
        return Rows(array, np.arange(len(array)))
    kept = [
        np.ones(len(part), bool) if mask is None else to_numpy(mask)
        for part, mask in zip(arrays, cloud.masks, strict=True)
    ]
    return Rows(array, np.flatnonzero(np.concatenate(kept)))


def classes_of(cloud: Points, by: Any, places: Places) -> tuple[Classes, Places]:
    """Check `by`; return the classes of the points at `places`, which count, and the number of every point's class.

    That number is -1 for points of a class without any that count.
    """
    try:
        found = groups_of(cloud, _checked(cloud, by))
    except IsoScoreError as error:
        raise type(error)("by", error.reason) if error.argument == "groups" else error from error
    if found is None or (found.axis is None and found.labels is None):
        raise InvalidTypeError("by", f"{_ALLOWED}; got labels without values, of a function that is traced")
    labels = np.arange(found.count) if found.labels is None else found.labels
    numbers = numbers_of_all(cloud, found)
    counts = np.bincount(numbers[places], minlength=len(labels))
    met = counts > 0
    if not met.all():
        numbers = np.where(met, np.cumsum(met) - 1, -1)[numbers]
        labels, counts = labels[met], counts[met]
    own = numbers[places]
    is_sorted = bool((own[1:] >= own[:-1]).all())
    order = np.arange(len(own)) if is_sorted else np.argsort(own, kind="stable")
    return Classes(labels, counts, np.cumsum(counts) - counts, order), numbers


def numbers_of_all(cloud: Points, groups: Groups) -> Places:
    """Return the number of the group of every point, masked ones included."""
    return numbers_of(cloud._replace(masks=[None] * len(cloud.masks)), groups)


def _checked(cloud: Points, by: Any) -> Any:
    """Require labels or an axis; labels of X's first axes are those of all points behind them."""
    axes = [len(array.shape) for array in cloud.arrays]
    if by is None:
        if min(axes) < 3:
            raise InvalidValueError("by", f"{_ALLOWED}; got none for an array of {min(axes)} axes")
        return 0
    if isinstance(by, (str, bytes, float, bool, np.bool_)):
        raise InvalidTypeError("by", f"{_ALLOWED}; got {shown(by)}")
    if len(axes) > 1 or np.ndim(by) == 0:
        return by
    labels = np.asarray(by) if isinstance(by, (list, tuple)) else by
    shape, leading = tuple(np.shape(labels)), tuple(cloud.arrays[0].shape[:-1])
    if not 0 < len(shape) < len(leading) or shape != leading[: len(shape)]:
        return by
    values = labels if isinstance(labels, np.ndarray) else cloud.backend.to_numpy(labels)
    return np.broadcast_to(values.reshape(shape + (1,) * (len(leading) - len(shape))), leading)
