"""With the groups' numbers from the data, no split into chunks, no order and no tree of merges changes a score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import isoscore_star as iso

Array = NDArray[Any]

TOLERANCE = 1e-12
"""Sums of a few hundred float64 terms err by some 10 ε, wherever they are cut.

A score is PR/(d - 1), whose relative error is that of tr A·tr B/⟨A, B⟩, at most d or so here: 10·8·ε = 2e-14. Means are
of the size of the standard deviations, so that merging them loses nothing."""


def merged(parts: list[Any], merge: Callable[[Any, Any], Any], rng: np.random.Generator) -> Any:
    """Merge two parts at random, until there is one."""
    parts = list(parts)
    while len(parts) > 1:
        first, second = rng.permutation(len(parts))[:2]
        result = merge(parts[first], parts[second])
        parts = [part for place, part in enumerate(parts) if place not in (first, second)] + [result]
    return parts[0]


def chunks_of(count: int, rng: np.random.Generator) -> list[Array]:
    """Return the numbers up to `count` in any order, cut anywhere, also into empty chunks."""
    cuts = np.sort(rng.integers(0, count + 1, size=rng.integers(0, 9)))
    return list(np.split(rng.permutation(count), cuts))


def points_of(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return points that resemble each other within groups, and the groups' numbers."""
    dim, groups = int(rng.integers(2, 9)), int(rng.integers(12, 40))
    numbers = rng.integers(0, groups, size=int(rng.integers(150, 300)))
    points = rng.normal(size=(groups, dim))[numbers] * 0.5 + rng.normal(size=(len(numbers), dim))
    return points * rng.gamma(2, size=dim) + rng.normal(size=dim), numbers


def sent(moments: iso.Moments, rng: np.random.Generator) -> iso.Moments:
    """Return the moments, or what arrives of them at another worker."""
    return iso.Moments.from_arrays(moments.to_arrays()) if rng.random() < 0.5 else moments


@given(seed=st.integers(0, 2**32 - 1))
def test_moments_of_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, numbers = points_of(rng)
    expected = iso.Moments().update(points, groups=numbers, first_group=0)

    def leaf(rows: Array) -> iso.Moments:
        moments = iso.Moments()
        for part in np.array_split(rows, int(rng.integers(1, 4))):
            moments.update(points[part], groups=numbers[part], first_group=0)
        return sent(moments, rng)

    def merge(ours: iso.Moments, theirs: iso.Moments) -> iso.Moments:
        return sent(ours.merge(theirs, same_groups=True), rng)

    found = merged([leaf(rows) for rows in chunks_of(len(points), rng)], merge, rng)
    assert (found.count, found.group_count) == (expected.count, expected.group_count)
    assert found.groups_with_points == expected.groups_with_points == len(np.unique(numbers))
    assert found.isoscore() == pytest.approx(expected.isoscore(), abs=TOLERANCE)
    assert found.isoscore_unbiased() == pytest.approx(expected.isoscore_unbiased(), abs=TOLERANCE)
    odd = numbers % 2 == 1
    first, second = np.cov(points[~odd].T), np.cov(points[odd].T)
    halves = (np.trace(first) * np.trace(second) / np.sum(first * second) - 1) / (points.shape[1] - 1)
    assert found.isoscore_unbiased() == pytest.approx(halves, abs=TOLERANCE)


@given(seed=st.integers(0, 2**32 - 1))
def test_moments_of_independent_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, _ = points_of(rng)
    leaves = [sent(iso.Moments().update(points[rows]), rng) for rows in chunks_of(len(points), rng)]
    found = merged(leaves, lambda ours, theirs: sent(ours.merge(theirs), rng), rng)
    cov = np.cov(points.T)
    score = (np.trace(cov) ** 2 / np.sum(cov**2) - 1) / (len(cov) - 1)
    assert found.isoscore() == pytest.approx(score, abs=TOLERANCE)
    assert found.isoscore_unbiased() == pytest.approx(iso.isoscore_unbiased(points), abs=TOLERANCE)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_streaming_moments_of_torch(seed: int) -> None:
    """Sequences come in pairs, one for each half, so that halves do not depend on the order of the pairs."""
    torch = pytest.importorskip("torch")
    from isoscore_star.backends.torch.moments import StreamingMoments

    rng = np.random.default_rng(seed)
    pairs, tokens, dim = (int(rng.integers(*ends)) for ends in ((10, 30), (2, 6), (2, 9)))
    states = rng.normal(size=(pairs, 2, 1, dim)) * 0.5 + rng.normal(size=(pairs, 2, tokens, dim))
    states = torch.from_numpy(states * rng.gamma(2, size=dim) + rng.normal(size=dim))

    def leaf(rows: Array) -> Any:
        moments = StreamingMoments(dim, fourth_order=True)
        for part in np.array_split(rows, int(rng.integers(1, 4))):
            moments.update(states[part].reshape(-1, tokens, dim))
        return StreamingMoments.from_packed(moments.packed(), dim, fourth_order=True) if rng.random() < 0.5 else moments

    leaves = [leaf(rows) for rows in chunks_of(pairs, rng)]
    found = merged(leaves, lambda ours, theirs: ours.merge(theirs), rng)
    points, numbers = states.reshape(-1, dim).numpy(), np.arange(2 * pairs).repeat(tokens)
    expected = iso.Moments().update(points, groups=numbers, first_group=0)
    assert found.count == len(points)
    assert float(found.isoscore()) == pytest.approx(expected.isoscore(), abs=TOLERANCE)
    assert float(found.isoscore_unbiased()) == pytest.approx(expected.isoscore_unbiased(), abs=TOLERANCE)
