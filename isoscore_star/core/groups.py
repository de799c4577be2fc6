"""Which points were sampled together, such as the tokens of a sentence, and the two halves of the groups.

`isoscore_star.core.formulas` says why: the halves are independent, whatever the points of a group have to do with each
other. A group is what was sampled: a sentence with its tokens in all layers, an example with its anchor, positive and
negatives, all generations of a prompt. The half of a group is its number modulo two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.checks import Points, flattened
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import shown
from isoscore_star.core.parameters import MOST_GROUPS
from isoscore_star.core.protocol import Array, Backend
from isoscore_star.core.registry import backend_of

ALLOWED = (
    'expected "auto" (the first axis of arrays of three axes), an axis, labels of the shape of X without its last '
    "axis, or None for independent points"
)


class Groups(NamedTuple):
    """Groups of points: those of one index along an axis, or of one number, one a point and flat for each cloud.

    `count` is None where it is not known while a function is traced. `labels` are those that were numbered, in order.
    """

    count: Any
    axis: int | None = None
    numbers: list[Array] | None = None
    labels: NDArray[Any] | None = None


class Halves(NamedTuple):
    """The points of the groups with even numbers and those with odd numbers, and the number of groups, if known."""

    first: Points
    second: Points
    count: Any


def groups_of(cloud: Points, groups: Any, *, waiting: bool = True, numbered: bool = False) -> Groups | None:
    """Check `groups` and find the groups of a cloud; None means that its points are independent.

    Labels that are `numbered` are the groups' numbers; others are numbered in their order. Labels of the cloud's
    framework without values, or for which the host would have to wait unless `waiting`, are numbers too.
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        axis = _automatic_axis(groups, [len(array.shape) for array in cloud.arrays])
        return None if axis is None else _along(axis, cloud)
    if isinstance(groups, (bool, np.bool_)):
        raise InvalidTypeError("groups", f"{ALLOWED}; got {groups!r}")
    if isinstance(groups, Integral):
        return _along(int(groups), cloud)
    backend = cloud.backend

    def unread(part: Array) -> bool:
        return (not waiting and backend.waits_for(part)) or _is_traced(part, backend)

    return _labelled(groups, cloud, unread, numbered)


def halves_of(cloud: Points, groups: Groups, across: Any = None, first_number: int = 0) -> Halves:
    """Split a cloud by its groups, whose numbers count on from `first_number` and from one device to the next."""
    backend = cloud.backend
    start: Any = first_number
    count = groups.count
    if across is not None and count is not None:
        before, count = backend.numbered(count, cloud.arrays[0], across)
        start = first_number + before
    known = isinstance(start, int) or backend.slices_from_unknown
    if groups.axis is not None and (known or (isinstance(groups.count, int) and groups.count % 2 == 0)):
        # An even number of groups has as many in both halves, whatever their numbers are.
        first = start if known else first_number
        return Halves(*_in_turn(cloud, groups.axis, first), count)
    numbers = _numbers(cloud, groups)
    odd: list[Array] = []
    for index, part in enumerate(numbers):
        odd.append(odd[-1] if index and part is numbers[index - 1] else (part + start) % 2 != 0)
    return Halves(_selected(cloud, odd, wanted=False), _selected(cloud, odd, wanted=True), count)


def groups_with_points(half: Points, groups: Groups) -> Any:
    """Return how many of the groups have an unmasked point in a half, without waiting; None if that is not known."""
    numbers, masks = _numbers(half, groups), half.masks
    shared = [i > 0 and numbers[i] is numbers[i - 1] and masks[i] is masks[i - 1] for i in range(len(masks))]
    own = [(part, mask) for part, mask, same in zip(numbers, masks, shared, strict=True) if not same]
    return half.backend.distinct([part for part, _ in own], [mask for _, mask in own], half.clouds[0])


def groups_suffice(halves: Halves, groups: Groups, across: Any = None) -> Any:
    """Return whether there are four groups or, of labels that are not read, two in each half.

    True where that is not known, as of such labels on several devices.
    """
    if halves.count is not None:
        return halves.count >= 4
    if across is not None:
        return True
    first, second = (groups_with_points(half, groups) for half in halves[:2])
    return True if first is None else (first >= 2) & (second >= 2)


def _automatic_axis(word: str, axes: Sequence[int]) -> int | None:
    if word != "auto":
        raise InvalidValueError("groups", f"{ALLOWED}; got {word!r}")
    if set(axes) == {2}:
        return None
    if set(axes) == {3}:
        return 0
    if max(axes) > 3:
        raise InvalidValueError(
            "groups",
            f'"auto" reads arrays of three axes as (sequences, tokens, dimensions); got {max(axes)} axes. For stacked '
            "layers (layers, sequences, tokens, dimensions) give list(X), or groups=1; for images or other samples "
            "along the first axis groups=0; for independent points groups=None",
        )
    raise InvalidValueError(
        "groups",
        f'"auto" takes arrays of two axes or of three, not both in one union; got {list(axes)} axes. Give labels, one '
        "array for each cloud, or groups=None for independent points",
    )


def _along(axis: int, cloud: Points) -> Groups:
    axes = {len(array.shape) for array in cloud.arrays}
    last = min(axes) - 1
    if len(axes) > 1 or not -last - 1 <= axis < last or axis == -1:
        raise InvalidValueError(
            "groups",
            f"expected an axis of X other than its last one, which has the dimensions; got {axis} for arrays of "
            f"{' and '.join(map(str, sorted(axes)))} axes",
        )
    axis %= last + 1
    sizes = [cloud.backend.size(array, axis) for array in cloud.arrays]
    if len({size for size in sizes if isinstance(size, int)}) > 1:
        raise InvalidValueError(
            "groups",
            f"the clouds of a union need the same groups along axis {axis}; got {sizes} of them. If the clouds are "
            "other sequences, and not other layers of the same ones, give labels, one array for each cloud",
        )
    return Groups(sizes[0], axis=axis)


def _labelled(groups: Any, cloud: Points, unread: Callable[[Array], bool], numbered: bool) -> Groups:
    """Find groups by labels, numbered on the host unless they are numbers or stay unread."""
    arrays, given = cloud.arrays, _for_each_cloud(groups, cloud.arrays)
    unread_numbers = _unread_numbers(given, cloud, unread)
    if unread_numbers is not None:
        return Groups(None, numbers=unread_numbers)
    flat: list[NDArray[Any]] = []
    for index, (part, array) in enumerate(zip(given, arrays, strict=True)):
        same = index and part is given[index - 1] and tuple(array.shape) == tuple(arrays[index - 1].shape)
        flat.append(flat[-1] if same else _labels(part, array))
    for part, points in zip(flat, cloud.clouds, strict=True):
        rows = getattr(points, "shape", (None,))[0]  # of ragged tensors, whose own shapes do not tell
        if len(part) != (rows or len(part)):
            raise InvalidValueError("groups", f"expected one label for each of {rows} points; got {len(part)}")
    kinds = {part.dtype.kind for part in flat}
    if len(kinds - {"i", "u"}) > 1 or len(kinds) > 2:
        raise InvalidTypeError(
            "groups", f"expected labels of one kind in all clouds; got {', '.join(str(part.dtype) for part in flat)}"
        )
    if numbered:
        return _numbered(flat)
    once = {id(part): part for part in flat}  # layers often share their labels
    distinct, numbers = np.unique(np.concatenate(list(once.values())), return_inverse=True)
    parts = np.split(numbers.reshape(-1), np.cumsum([len(part) for part in once.values()])[:-1])
    found = dict(zip(once, parts, strict=True))
    return Groups(len(distinct), numbers=[found[id(part)] for part in flat], labels=distinct)


def _for_each_cloud(groups: Any, arrays: Sequence[Array]) -> list[Any]:
    given = list(groups) if isinstance(groups, (list, tuple)) and len(arrays) > 1 else [groups] * len(arrays)
    if len(given) == len(arrays) == 1 and isinstance(groups, (list, tuple)) and len(groups) == 1:
        given = list(groups) if np.ndim(groups[0]) == len(arrays[0].shape) - 1 else given
    if len(given) != len(arrays):
        raise InvalidValueError(
            "groups", f"expected a list with one array of labels for each of the {len(arrays)} clouds; got {len(given)}"
        )
    return given


def labels_of_clouds(cloud: Points, groups: Any) -> list[Array]:
    """Return the labels of each cloud, of its shape without the last axis, without reading their values."""
    if isinstance(groups, (str, float, bool)) or np.ndim(groups) == 0:
        raise InvalidTypeError("groups", f"{ALLOWED}; got {groups!r}")
    given = _for_each_cloud(groups, cloud.arrays)
    labels = [np.asarray(part) if isinstance(part, (list, tuple)) else part for part in given]
    for part, array in zip(labels, cloud.arrays, strict=True):
        _require_shape(tuple(part.shape), array)
    return labels


def _numbered(flat: list[NDArray[Any]]) -> Groups:
    numbers = np.concatenate(flat)
    whole = numbers.dtype.kind in "iu"
    least, largest = (numbers.min(), numbers.max()) if whole and len(numbers) else (0, 0)
    if not whole or least < 0 or largest >= MOST_GROUPS:
        raise InvalidTypeError(
            "groups",
            f"with first_group, labels are the groups' numbers from 0 to 2³¹; got dtype {numbers.dtype}"
            + (f" and {least if least < 0 else largest}" if whole else ""),
        )
    parts: list[Array] = [part.astype(np.int64) for part in flat]
    return Groups(int(numbers.max()) + 1 if len(numbers) else 0, numbers=parts)


def _unread_numbers(given: list[Any], cloud: Points, unread: Callable[[Array], bool]) -> list[Array] | None:
    """Return labels, flat, if any of them stay unread."""
    backend = cloud.backend
    if not any(backend.owns(part) and unread(part) for part in given):
        return None
    for part, array in zip(given, cloud.arrays, strict=True):
        dtype = backend.dtype_name(part) if backend.owns(part) else str(np.asarray(part).dtype)
        if not dtype.startswith(("int", "uint")):
            raise InvalidTypeError(
                "groups",
                "labels that are not read, in a traced or compiled function or on another device, are the groups' "
                f"numbers, integers; got dtype {dtype}",
            )
        _require_shape(tuple(part.shape), array)
    return [backend.flat(part) for part in given]


def _is_traced(labels: Array, backend: Backend) -> bool:
    if isinstance(labels, np.ndarray):
        return False
    flat = backend.flat(labels)
    # Of labels that are words, too, a comparison is a number.
    return None in flat.shape or (0 not in flat.shape and backend.concrete(flat[0] == flat[0]) is None)


def _require_shape(shape: tuple[Any, ...], array: Array) -> None:
    expected = tuple(array.shape[:-1])
    if len(shape) != len(expected) or any(a != b for a, b in zip(shape, expected, strict=True) if None not in (a, b)):
        raise InvalidValueError("groups", f"expected shape {expected}, one label for each point; got {shape}")


def _labels(part: Any, array: Array) -> NDArray[Any]:
    allowed = "expected an array of labels, integers or strings, one for each point"
    try:
        sequence = isinstance(part, (list, tuple))
        labels = np.asarray(part) if sequence else backend_of(part, "groups").to_numpy(part)
        if labels.dtype == object:
            np.unique(labels)  # raises for labels of mixed kinds
    except InvalidTypeError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # also ragged lists
        raise InvalidTypeError("groups", f"{allowed}; got {shown(part)}, of which there is none ({error})") from error
    missing = 0 if labels.dtype.kind in "iubUS" else np.count_nonzero(labels != labels)
    if labels.dtype.kind == "f":
        missing = np.count_nonzero(~np.isfinite(labels))
    if missing:
        raise InvalidValueError("groups", f"{allowed}; got {missing} NaN or inf. Give such points a label of their own")
    _require_shape(tuple(getattr(part, "shape", labels.shape)), array)
    return labels.reshape(-1)


def _in_turn(cloud: Points, axis: int, start: Any) -> tuple[Points, Points]:
    backend = cloud.backend
    pairs = [backend.in_turn(array, axis, start) for array in cloud.arrays]
    masks: list[tuple[Array | None, Array | None]] = []
    for index, mask in enumerate(cloud.given_masks):
        same = index and mask is cloud.given_masks[index - 1]
        masks.append(masks[-1] if same else (None, None) if mask is None else backend.in_turn(mask, axis, start))
    first, second = (
        flattened(backend, [pair[half] for pair in pairs], [pair[half] for pair in masks]) for half in (0, 1)
    )
    return first, second


def _selected(cloud: Points, odd: list[Array], *, wanted: bool) -> Points:
    masks: list[Array] = []
    for index, (part, mask, rows) in enumerate(zip(odd, cloud.masks, cloud.clouds, strict=True)):
        if index and part is odd[index - 1] and mask is cloud.masks[index - 1]:
            masks.append(masks[-1])  # the same object, which backends count once
            continue
        own = cloud.backend.mask(part if wanted else ~part, rows)
        masks.append(own if mask is None else own & mask)
    return cloud._replace(masks=masks)


def numbers_of(cloud: Points, groups: Groups) -> NDArray[np.int64]:
    """Return the group's number of each unmasked point, in NumPy."""
    to_numpy, parts = cloud.backend.to_numpy, []
    for own, keep in zip(_numbers(cloud, groups), cloud.masks, strict=True):
        numbers = own if isinstance(own, np.ndarray) else to_numpy(own)
        parts.append(numbers if keep is None else numbers[to_numpy(keep)])
    return np.concatenate(parts).astype(np.int64)


def _numbers(cloud: Points, groups: Groups) -> list[Array]:
    """Return the group's number of each point, flat, for each cloud."""
    if groups.axis is None:
        return groups.numbers or []
    numbers: list[Array] = []
    for index, array in enumerate(cloud.arrays):
        shape, before = array.shape[:-1], cloud.arrays[index - 1].shape[:-1]
        same = index and None not in shape and shape == before
        numbers.append(numbers[-1] if same else cloud.backend.numbers_along(array, groups.axis))
    return numbers
