"""Scores of clouds whose points were sampled in groups, such as the tokens of sentences: of two halves of the groups.

What `isoscore_star.core.standard_error.GroupedJackknife` has of one cloud, for many of them in one product. The halves
of the clouds have other numbers of points, so that rows are filled up with zeros, which add nothing to any sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from isoscore_star.core import formulas
from isoscore_star.core.protocol import Pair
from isoscore_star.core.score import halves_score, rounding_of_margin
from isoscore_star.core.standard_error import ROUNDING
from isoscore_star.groupwise._centred import Centred, centred
from isoscore_star.groupwise._classes import Classes, Places, Rows

FloatArray = NDArray[np.float64]


class Halves(NamedTuple):
    """The points of the groups with even and with odd numbers within their class.

    Attributes
    ----------
    order : ndarray of shape (m,)
        Numbers of the points, those of a half of a class after each other, and in it those of a group.
    groups : ndarray of shape (m,)
        For each place in `order`, a number of the group within its class, another one in each class.
    counts, starts : ndarray of shape (2, classes)
        Points of each half, and where they start in `order`.
    group_counts : ndarray of shape (2, classes)
        Groups with points.
    numbers : ndarray of shape (m,)
        For each point, the number of its group within its class.
    """

    order: Places
    groups: Places
    counts: Places
    starts: Places
    group_counts: Places
    numbers: Places

    def of_similar_counts(self, which: Places, entries: int, dim: int) -> Iterator[tuple[tuple[int, int], Places]]:
        """Return batches of the classes `which`, whose halves are filled up to as many rows, and these numbers."""
        sizes = _rounded_up(self.counts[:, which])
        order = np.lexsort(sizes)
        changes = np.flatnonzero((np.diff(sizes[:, order], axis=1) != 0).any(axis=0)) + 1
        for same in np.split(order, changes) if len(order) else []:
            first, second = (int(size) for size in sizes[:, same[0]])
            step = max(1, entries // ((first + second) * dim))
            for start in range(0, len(same), step):
                yield (first, second), which[same[start : start + step]]


def halves_of_classes(classes: Classes, numbers: Places, groups: Places, counted: Places) -> Halves:
    """Return the groups, numbered within each class, and the points sorted by their half.

    Parameters
    ----------
    classes : Classes
        Of the points that count.
    numbers, groups : ndarray
        Number of the class (negative for one without points that count) and of the group of every point, masked ones
        included: a group without points keeps its number, as in `isoscore_star.measure` of the class alone.
    counted : ndarray
        Which of these are the points that count.
    """
    own = numbers >= 0
    width = int(groups.max(initial=0)) + 1
    pairs = np.full(len(numbers), -1)
    distinct, pairs[own] = np.unique(numbers[own] * width + groups[own], return_inverse=True)
    of_class = distinct // width
    ranks = np.arange(len(distinct)) - np.searchsorted(of_class, of_class)
    pairs = pairs[counted]
    sorted_pairs = np.lexsort((ranks, ranks % 2, of_class))
    places = np.empty_like(sorted_pairs)
    places[sorted_pairs] = np.arange(len(sorted_pairs))
    halves = 2 * of_class + ranks % 2
    shape = (len(classes.labels), 2)
    points = np.bincount(halves[pairs], minlength=2 * len(classes.labels))
    met = np.unique(pairs)
    order = np.argsort(places[pairs], kind="stable")
    return Halves(
        order,
        places[pairs][order],
        points.reshape(shape).T,
        (np.cumsum(points) - points).reshape(shape).T,
        np.bincount(halves[met], minlength=2 * len(classes.labels)).reshape(shape).T,
        ranks[pairs],
    )


class _Half(NamedTuple):
    """Rows of the halves of b clouds, centred, (b, n, d); those of their groups, and what each point's group is."""

    rows: Centred
    counts: Places
    members: csr_array
    sizes: FloatArray
    of_cloud: Places


def figures_of_halves(
    points: Rows, halves: Halves, which: Places, sizes: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Compute the scores of two halves and their standard errors; NaN where there is none."""
    first, second = (_half(points, halves, which, half, size) for half, size in enumerate(sizes))
    own, other = first.rows.rows, second.rows.rows
    dim = own.shape[2]
    traces = [np.einsum("kij,kij->k", rows, rows, dtype=np.float64) for rows in (own, other)]
    has_spread = (traces[0] > 0) & (traces[1] > 0)
    if own.shape[1] * other.shape[1] <= (own.shape[1] + other.shape[1]) * dim:
        product = own @ other.transpose(0, 2, 1)
        products: list[Any] = [(product, None), (product.transpose(0, 2, 1), None)]
    else:
        products = [(own @ (other.transpose(0, 2, 1) @ other), own), (other @ (own.transpose(0, 2, 1) @ own), other)]
    mapped = [_inner(product, rows) for product, rows in products]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = mapped[0].sum(axis=1) / traces[0] / traces[1]
        precision = max(first.rows.precision, second.rows.precision)
        rounding = rounding_of_margin(np.maximum(first.counts, second.counts), precision)
        enough = (halves.group_counts[:, which] >= 2).all(axis=0) & has_spread & (inner > rounding)
        one = np.ones(len(which))
        pair = Pair((first.counts, second.counts), (1.0, 1.0), one, one, np.where(enough, inner, 1.0), precision)
        scores = np.where(enough, halves_score(pair, dim, np.where, enough=enough, floored=False), np.nan)
        variance = sum(
            _variance(half, product, rows, own_mapped, trace, inner * traces[0] * traces[1])
            for half, (product, rows), own_mapped, trace in zip((first, second), products, mapped, traces, strict=True)
        )
        ratios: Any = formulas.participation_ratio(scores, dim)  # type: ignore[arg-type]
        errors = np.sqrt(variance) * ratios / (dim - 1)
    defined = (halves.group_counts[:, which] >= 3).all(axis=0) & np.isfinite(errors) & (errors > 0)
    return scores, np.where(defined, errors, np.nan)


def _half(points: Rows, halves: Halves, which: Places, half: int, size: int) -> _Half:
    counts = halves.counts[half, which]
    steps = np.minimum(np.arange(size), np.maximum(counts[:, None] - 1, 0))
    places = np.minimum(halves.starts[half, which][:, None] + steps, len(halves.order) - 1)
    counted = np.arange(size) < counts[:, None]
    rows = centred(points.at(halves.order[places]), counted)
    groups = halves.groups[places].reshape(-1)  # rows that were filled up are of the last group, to which they add zero
    index = np.arange(len(groups))
    starts = np.flatnonzero((np.diff(groups, prepend=-1) != 0) | (index % size == 0))
    members = csr_array((np.ones(len(groups)), index, np.append(starts, len(groups))), shape=(len(starts), len(groups)))
    return _Half(rows, counts, members, members @ counted.reshape(-1), starts // size)


def _inner(product: NDArray[Any], rows: NDArray[Any] | None) -> FloatArray:
    """Return xᵢᵀBxᵢ from X·B and X, or from X·Yᵀ of which B = YᵀY."""
    return np.asarray(np.einsum("kij,kij->ki", product, product if rows is None else rows, dtype=np.float64))


def _variance(
    half: _Half,
    product: NDArray[Any],
    rows: NDArray[Any] | None,
    mapped: FloatArray,
    trace: FloatArray,
    inner: FloatArray,
) -> FloatArray:
    """Return (G − 1)/G·Σ(θ₋g − θ̄)² over the groups of the half of each cloud; NaN where one leaves no score."""
    centred_rows = half.rows.rows
    sums = half.members @ centred_rows.reshape(-1, centred_rows.shape[2])
    products = half.members @ product.reshape(-1, product.shape[2])
    squares = half.members @ np.einsum("kij,kij->ki", centred_rows, centred_rows, dtype=np.float64).reshape(-1)
    t, left = formulas.without_group(
        1.0,
        1.0,
        half.counts[half.of_cloud],  # type: ignore[arg-type]
        half.sizes,  # type: ignore[arg-type]
        squares / trace[half.of_cloud],
        half.members @ mapped.reshape(-1) / inner[half.of_cloud],
        np.einsum("ij,ij->i", sums, sums) / trace[half.of_cloud],
        np.einsum("ij,ij->i", products, products if rows is None else sums) / inner[half.of_cloud],
    )
    defined = (np.asarray(t) > ROUNDING) & (np.asarray(left) > ROUNDING)
    changes = np.where(defined, np.log(t) - np.log(left), np.nan)
    count = len(trace)
    groups = np.bincount(half.of_cloud, minlength=count)
    means = np.bincount(half.of_cloud, changes, minlength=count) / groups
    apart = changes - means[half.of_cloud]
    return np.asarray((1 - 1 / groups) * np.bincount(half.of_cloud, apart * apart, minlength=count))


def _rounded_up(counts: Places) -> Places:
    """Round counts up to four binary digits, at least 1: with few different numbers little is filled up."""
    counts = np.maximum(counts, 1)
    steps = 2 ** np.maximum(np.floor(np.log2(counts)).astype(np.int64) - 3, 0)
    return np.asarray(-(-counts // steps) * steps)
