"""The unbiased estimator against brute force, another package, and its own expectation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from adapters import Adapter

import isoscore_star as iso
from isoscore_star.core import formulas


def brute_force(points: np.ndarray) -> tuple[float, float]:
    """U-statistics of (tr Σ)² and tr(Σ²): the mean over all ordered quadruples of distinct points."""
    squared_trace = trace_of_square = 0.0
    quadruples = list(permutations(range(len(points)), 4))
    for i, j, k, n in quadruples:
        a, b = points[i] - points[j], points[k] - points[n]
        squared_trace += (a @ a) * (b @ b) / 4
        trace_of_square += (a @ b) ** 2 / 4
    return squared_trace / len(quadruples), trace_of_square / len(quadruples)


@pytest.mark.parametrize("rows", [4, 5, 7])
def test_formulas_are_the_u_statistics(rng: np.random.Generator, rows: int) -> None:
    points = rng.normal(size=(rows, 3)) * [3, 1, 0.5] + 2
    centred = points - points.mean(axis=0)
    S = centred.T @ centred / (rows - 1)
    q = np.sum(np.sum(centred**2, axis=1) ** 2) / (rows - 1)
    estimates = formulas.unbiased_squares(np.trace(S), np.sum(S * S), q, rows)
    factor = formulas.unbiased_factor(rows)
    for estimate, expected in zip(estimates, brute_force(points), strict=True):
        assert factor * estimate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("rows", "dim"), [(8, 40), (40, 40), (300, 40), (4, 3)])
def test_every_backend_agrees_with_the_dimensionality_package(
    backend: Adapter, rng: np.random.Generator, rows: int, dim: int
) -> None:
    dimensionality = pytest.importorskip("dimensionality")
    points = rng.normal(size=(rows, dim)) * np.linspace(0.2, 2, dim) + 1
    expected = dimensionality.participation_ratio(points, return_all=True)["row"]
    got = backend.value(iso.isoscore_unbiased, backend.native(points))
    assert iso.participation_ratio(got, dim) == pytest.approx(expected, rel=1e-11)


def test_masks_and_unions(backend: Adapter, rng: np.random.Generator) -> None:
    points = rng.normal(size=(60, 9)) * np.arange(1, 10)
    keep = rng.random(60) < 0.6
    expected = iso.isoscore_unbiased(points[keep])
    noise = np.where(keep[:, None], points, np.nan)
    first, second = backend.native(noise[:20]), backend.native(noise[20:])
    got = backend.value(lambda x: iso.isoscore_unbiased([x, second], mask=[keep[:20], keep[20:]]), first)
    assert got == pytest.approx(expected, abs=1e-12)


def test_a_denominator_that_is_not_positive_is_an_error(backend: Adapter) -> None:
    # In a regular simplex all differences of distinct pairs are orthogonal: every term of the U-statistic is zero.
    simplex = backend.native(np.eye(5)[:4] + 0.1)
    with pytest.raises(iso.DegenerateDataError, match="not positive"):
        iso.isoscore_unbiased(simplex)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_than_four_points_are_an_error(backend: Adapter, rows: int) -> None:
    with pytest.raises(iso.DegenerateDataError, match="at least 4 points"):
        iso.isoscore_unbiased(backend.native(np.eye(5)[:rows]))
