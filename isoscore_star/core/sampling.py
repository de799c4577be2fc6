"""A sample of the states of a batch, which is enough for a logged score and for a running covariance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple, cast

import numpy as np

from isoscore_star.core import checks, formulas
from isoscore_star.core.checks import Points
from isoscore_star.core.groups import Groups, groups_of, halves_of
from isoscore_star.core.protocol import Array, Backend
from isoscore_star.core.scaling import larger

STATES = 512
"""Token states that are enough for a logged score."""


class Fraction(NamedTuple):
    """A score as numerator and denominator, whose means over steps are taken apart: a ratio of few points is skewed."""

    numerator: Any
    denominator: Any


def sample_of(states: Sequence[Array], most: int, backend: Backend) -> Callable[[Array], Array]:
    """Return what takes some tokens of every sequence (or some of the points) of an array, about `most` of all."""
    total = sum(_count(state, backend) for state in states)
    axis = 1 if all(len(state.shape) > 2 for state in states) else 0
    return partial(backend.some_along, axis=axis, most=most, total=total)


def fraction_of_halves(
    states: Sequence[Array], masks: Sequence[Any], groups: Any, backend: Backend, across: Any = None
) -> Fraction:
    """Compute the score of two halves of the groups from a sample of the states; 0/0 below four groups.

    Rows of one index are a group where nothing else is said, whatever the number of axes.
    """
    taken = sample_of(states, STATES, backend)
    sampled = [None if mask is None else taken(mask) for mask in masks]
    cloud = checks.points([taken(state) for state in states], sampled, backend)
    halves = halves_of(cloud, _groups_of_sample(cloud, groups, taken), across)
    first, second = halves.first, halves.second
    pair = backend.pair(first.clouds, first.masks, second.clouds, second.masks, across=across)
    numerator, denominator = formulas.score_fraction(pair.t_a, pair.t_b, pair.inner, cloud.dim)
    if halves.count is None:
        return Fraction(numerator, denominator)
    return Fraction(*(_only_if(halves.count >= 4, part, backend) for part in (numerator, denominator)))


def _groups_of_sample(cloud: Points, groups: Any, taken: Callable[[Array], Array]) -> Groups:
    """Find the groups of a sampled cloud: by labels of all states, or along an axis."""
    arrays, backend = cloud.arrays, cloud.backend
    given = isinstance(groups, (list, tuple)) and len(groups) == len(arrays)
    labels = list(groups) if given else [groups] * len(arrays)
    if all(np.ndim(label) > 0 for label in labels):
        return cast(Groups, groups_of(cloud, [taken(label) for label in labels], waiting=False))
    axis = groups if isinstance(groups, int) else 0  # a word or None names no axis
    if len({(len(array.shape), array.shape[axis]) for array in arrays}) == 1:
        return cast(Groups, groups_of(cloud, axis))
    axes = [axis % len(array.shape) for array in arrays]
    sizes = [backend.size(array, own) for array, own in zip(arrays, axes, strict=True)]
    numbers = [backend.numbers_along(array, own) for array, own in zip(arrays, axes, strict=True)]
    return Groups(reduce(lambda a, b: _larger(a, b, backend), sizes), numbers=numbers)


def _count(state: Array, backend: Backend) -> Any:
    """Return the number of rows: an int if it is known."""
    return math.prod(backend.size(state, axis) for axis in range(len(state.shape) - 1))


def _larger(a: Any, b: Any, backend: Backend) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else larger(a, b, backend.where)


def _only_if(condition: Any, value: Any, backend: Backend) -> Any:
    return condition * value if isinstance(condition, bool) else backend.where(condition, value, 0.0)
