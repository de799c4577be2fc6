"""A sample of the states of a batch, which is enough for a logged score and for a running covariance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple, cast

from isoscore_star.core import checks, formulas
from isoscore_star.core.checks import Points
from isoscore_star.core.groups import Groups, groups_of, groups_suffice, halves_of, labels_of_clouds
from isoscore_star.core.protocol import Array, Backend
from isoscore_star.core.scaling import larger

STATES = 512
"""Token states of a batch that are enough for a logged score, and for a running Σ_S."""


class Fraction(NamedTuple):
    """A score as numerator and denominator, whose means over steps are taken apart: a ratio of few points is skewed."""

    numerator: Any
    denominator: Any


def sample_of(states: Sequence[Array], most: int, backend: Backend) -> Callable[[Array], Array]:
    """Return what takes some tokens of every sequence (or some of the points) of an array, about `most` of all."""
    total = sum(_count(state, backend) for state in states)
    axis = 1 if all(len(state.shape) > 2 for state in states) else 0
    return partial(backend.some_along, axis=axis, most=most, total=total)


def sampled(cloud: Points, taken: Callable[[Array], Array]) -> Points:
    """Return what is taken of a cloud; one mask of several layers stays one, which backends count once."""
    masks: list[Array | None] = []
    for index, mask in enumerate(cloud.given_masks):
        same = index and mask is cloud.given_masks[index - 1]
        masks.append(masks[-1] if same else None if mask is None else taken(mask))
    return checks.points([taken(array) for array in cloud.arrays], masks, cloud.backend)


def fraction_of_halves(
    states: Sequence[Array], masks: Sequence[Any], groups: Any, backend: Backend, across: Any = None
) -> Fraction:
    """Compute the score of two halves of the groups from a sample of the states; 0/0 below four groups.

    Rows of one index are a group where nothing else is said, whatever the number of axes.
    """
    whole = checks.points(list(states), list(masks), backend)
    taken = _whole if _is_other_axis(groups, whole) else sample_of(whole.arrays, STATES, backend)
    cloud = sampled(whole, taken)
    found = _groups_of_sample(whole, cloud, groups, taken)
    halves = halves_of(cloud, found, across)
    first, second = halves.first, halves.second
    pair = backend.pair(first.clouds, first.masks, second.clouds, second.masks, across=across)
    numerator, denominator = formulas.score_fraction(pair.t_a, pair.t_b, pair.inner, cloud.dim)
    enough = groups_suffice(halves, found, across)
    return Fraction(*(_only_if(enough, part, backend) for part in (numerator, denominator)))


def _is_other_axis(groups: Any, cloud: Points) -> bool:
    """Return whether groups lie along another axis than the first, of which a sample would take some alone."""
    if isinstance(groups, bool) or not isinstance(groups, int):
        return False
    groups_of(cloud, groups)  # which tells of a wrong one
    return any(groups % len(array.shape) != 0 for array in cloud.arrays)


def _whole(array: Array) -> Array:
    return array


def _groups_of_sample(whole: Points, cloud: Points, groups: Any, taken: Callable[[Array], Array]) -> Groups:
    """Find the groups of a sampled cloud: by labels of all states, or along an axis."""
    arrays, backend = cloud.arrays, cloud.backend
    usual = groups is None or (isinstance(groups, str) and groups == "auto")  # names no axis
    if not (usual or isinstance(groups, int)):
        labels = labels_of_clouds(whole, groups)
        return cast(Groups, groups_of(cloud, [taken(part) for part in labels], waiting=False))
    axis = 0 if usual else groups
    if len({(len(array.shape), array.shape[axis]) for array in arrays}) == 1:
        return cast(Groups, groups_of(cloud, axis))
    axes = [axis % len(array.shape) for array in arrays]
    sizes = [backend.size(array, own) for array, own in zip(arrays, axes, strict=True)]
    numbers = [backend.numbers_along(array, own) for array, own in zip(arrays, axes, strict=True)]
    return Groups(reduce(lambda a, b: _larger(a, b, backend), sizes), numbers=numbers)


def _count(state: Array, backend: Backend) -> Any:
    """Return the number of rows: an int if it is known."""
    count: Any = 1
    for axis in range(len(state.shape) - 1):  # no generator, which torch.compile does not trace
        count = count * backend.size(state, axis)
    return count


def _larger(a: Any, b: Any, backend: Backend) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else larger(a, b, backend.where)


def _only_if(condition: Any, value: Any, backend: Backend) -> Any:
    return condition * value if isinstance(condition, bool) else backend.where(condition, value, 0.0)
