"""`measure_groups`: the scores of many classes, and how the whole splits into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import groups_of, numbers_of
from isoscore_star.core.moments import Moments
from isoscore_star.distributed_arrays import is_frame
from isoscore_star.groupwise._centred import centred
from isoscore_star.groupwise._classes import Classes, Places, Rows, classes_of, numbers_of_all, rows_of
from isoscore_star.groupwise._halves import Halves, figures_of_halves, halves_of_classes
from isoscore_star.groupwise._independent import figures_of
from isoscore_star.groupwise._large import one_of
from isoscore_star.groupwise._result import GroupedMeasurement
from isoscore_star.groupwise._split import Split
from isoscore_star.measurement import Measurement

BATCH = 2**18
"""Numbers of the points that are multiplied at once, 2 MiB: they stay in a processor's cache from one step to the next,
and there are enough of them that what Python does between two batches is a small part."""

LARGEST = 2**22
"""Numbers (32 MiB) of the points of a class up to which they are taken at once."""

_LEAST_SAMPLE, _SAMPLE_PER_DIMENSION = 4096, 4
"""Independent points up to which all are taken for the standard error of the whole; of more, so many at random.

That changes it by chance, by about 1 %, and saves most of the time; `isoscore_star.readers` has the same rule."""


def measure_groups(X: Any, by: Any = None, *, mask: Any = None, groups: Any = "auto") -> GroupedMeasurement:
    """Measure the cloud of every class by itself: each language, cluster or document, or each cloud of an array.

    The score of a class is that of its own points, (PR − 1)/(d − 1) of their covariance (`isoscore_star.isoscore`), its
    unbiased score and standard error are those of `isoscore_star.measure`. The scatter of all points splits into W + B,
    with W within the classes and B = Σ n_g·(μ_g − μ)(μ_g − μ)ᵀ between them.

    Parameters
    ----------
    X : array of shape (m, d) or (..., d), or a list or tuple of such arrays
        Points as rows, of any installed framework; computed in NumPy, those of less than 128 dimensions in float64. An
        array that is memory-mapped is read in parts.
    by : array of shape ``X.shape[:-1]``, int, or None
        The label of each point's class: integers, strings or others that can be sorted. Labels of the shape of X's
        first axes are those of all points behind them: one a document, for (documents, tokens, d). Of a list a list, or
        one array for all. An integer is an axis of X; None stands for the first one of (clouds, points, d).
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for points, 0 or false for padding.
    groups : "auto", int, array of labels, or None, default "auto"
        Which points were sampled together, such as the tokens of a sentence; see `isoscore_star.isoscore_unbiased`.
        Unbiased scores then are those of two halves of the groups of each class. Without `by`, "auto" is what it is
        for each cloud: none for (clouds, points, d), the second axis of (clouds, sequences, tokens, d).

    Returns
    -------
    GroupedMeasurement
        A score, unbiased score, standard error and count for each class, the measurement of the whole, and its split.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.measure` of all points; also if `by` does not fit X. What is undefined for a class alone is
        missing there, and no error.

    Notes
    -----
    Classes of as many points are multiplied together, by n × n products of n ≤ 2d points and d × d ones of more: there
    is no step of Python for each class. Memory for the sorted places of the points, and a few MiB more. The standard
    error of all independent points together is had from max(4,096, 4·d) of them at random, if there are more.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> clouds = np.random.default_rng(0).normal(size=(1000, 20, 3))   # 1,000 clouds of 20 points in space
    >>> clouds[7] *= [9, 1, 1]
    >>> measured = iso.measure_groups(clouds)
    >>> len(measured), int(measured.ranked[0]), round(measured[7].score, 2)
    (1000, 7, 0.06)
    """
    if any(is_frame(item) for item in (X, by)):
        raise InvalidTypeError(
            "X", "expected points in memory; got a data frame of Dask. Give X.compute(), or the classes one by one"
        )
    cloud = checks.points(X, mask)
    points = rows_of(cloud)
    classes, numbers = classes_of(cloud, by, points.places)
    groups = _automatic(groups, by, cloud)
    whole = _whole(X, mask, groups, cloud, points)
    found = groups_of(cloud, groups)
    halves = None
    if found is not None:
        halves = halves_of_classes(classes, numbers, numbers_of_all(cloud, found), points.places)
    split = Split.within_memory(whole._spread)
    scores, unbiased, errors = map(np.ma.masked_invalid, _figures(points, classes, halves, cloud.dim, split))
    return GroupedMeasurement(
        classes.labels,
        classes.counts,
        scores,
        unbiased,
        errors,
        whole,
        None if halves is None else halves.group_counts.sum(axis=0),
        None if split is None else split.scatters(),
    )


def _automatic(groups: Any, by: Any, cloud: Points) -> Any:
    """Return what "auto" stands for if the first axis is that of the clouds."""
    if by is not None or not (isinstance(groups, str) and groups == "auto"):
        return groups
    axes = len(cloud.arrays[0].shape)
    if axes > 4:
        raise InvalidValueError(
            "groups",
            f'"auto" reads arrays of four axes as (clouds, sequences, tokens, dimensions); got {axes} axes. Give an '
            "axis, or groups=None for independent points",
        )
    return None if axes == 3 else 1


def _whole(X: Any, mask: Any, groups: Any, cloud: Points, points: Rows) -> Measurement:
    """Measure all points; values are checked here."""
    moments, count = Moments().update(X, mask, groups), len(points.places)
    found = groups_of(cloud, groups)
    if found is not None:
        numbers = numbers_of(cloud, found)

        def blocks() -> Iterator[tuple[NDArray[Any], Places]]:
            for start in range(0, count, BLOCK_ROWS):
                part = np.arange(start, min(start + BLOCK_ROWS, count))
                yield points.at(part), numbers[part]

        taken = "labels" if found.axis is None else f"axis {found.axis}"
        return replace(Measurement.from_moments(moments, blocks), groups=taken)
    sample, size = np.arange(count), max(_LEAST_SAMPLE, _SAMPLE_PER_DIMENSION * cloud.dim)
    if count > size:
        sample = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
    return Measurement.from_moments(moments, points.at(sample) if count > 1 else None)


def _figures(
    points: Rows, classes: Classes, halves: Halves | None, dim: int, split: Split | None
) -> NDArray[np.float64]:
    """Return scores, unbiased scores and standard errors, shape (3, classes); NaN where there is none."""
    figures = np.full((3, len(classes.labels)), np.nan)
    is_large = classes.counts * dim > LARGEST
    for number in np.flatnonzero(is_large):
        first = classes.starts[number]
        own = classes.order[first : first + classes.counts[number]]
        moments, *figures[:, number] = one_of(points, own, None if halves is None else halves.numbers[own])
        if split is not None:
            split.take_spread(moments.spread())
    for n, which in classes.of_equal_counts(BATCH, dim):
        if n * dim > LARGEST:
            continue
        clouds = centred(points.at(classes.points(which, n)))
        figures[:, which] = figures_of(clouds, with_unbiased=halves is None)
        if split is not None:
            split.take(clouds)
    if split is not None and split.is_far:
        for n, which in classes.of_equal_counts(BATCH, dim):
            if n * dim <= LARGEST:
                split.take_within(centred(points.at(classes.points(which, n))))
    if halves is not None:
        for sizes, which in halves.of_similar_counts(np.flatnonzero(~is_large), BATCH, dim):
            figures[1:, which] = figures_of_halves(points, halves, which, sizes)
    return figures
