"""The longest points: their shares and the score without them, against leaving them out."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso


def heavy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw points of a Student t with 5 degrees of freedom."""
    return rng.normal(size=shape) * np.sqrt(3 / rng.chisquare(5, size=(shape[0], 1)))


@pytest.mark.parametrize(("shape", "count"), [((30, 50), 1), ((400, 50), 4), ((3000, 20), 10)])
@pytest.mark.parametrize("factor", [1, 100, 1e4])
def test_against_leaving_them_out(rng: np.random.Generator, shape: tuple[int, int], count: int, factor: float) -> None:
    points = rng.normal(size=shape) * np.linspace(0.5, 2, shape[1]) + 3
    points[7] = (points[7] - 3) * factor + 3
    lengths = np.sum((points - points.mean(0)) ** 2, axis=1)
    rest = np.delete(points, np.argsort(lengths)[-count:], axis=0)
    found = iso.measure(points).longest_points
    assert found is not None
    assert found.count == count
    assert found.trace_share == pytest.approx(np.sort(lengths)[-count:].sum() / lengths.sum(), rel=1e-9)
    scatters = [np.cov(part.T, ddof=0) * len(part) for part in (rest, points)]
    assert found.square_share == pytest.approx(1 - np.sum(scatters[0] ** 2) / np.sum(scatters[1] ** 2), rel=1e-9)
    # The scatter loses 1e8·1e-16 of the longest point's digits, and as many again in a sum of d² entries.
    assert found.score_without == pytest.approx(iso.isoscore(rest), rel=1e-6)


def test_no_score_where_rounding_leaves_none(rng: np.random.Generator) -> None:
    points = rng.normal(size=(500, 200)).astype(np.float32)
    points[3] *= 1e6
    found = iso.measure(points).longest_points
    assert found is not None
    assert found.score_without is None
    assert "hang on them" in iso.measure(points).warnings[-1]


def test_one_of_fewer_than_twenty_points_is_not_few(rng: np.random.Generator) -> None:
    assert iso.measure(rng.normal(size=(19, 5))).longest_points is None
    assert iso.measure(rng.normal(size=(20, 5))).longest_points is not None


@pytest.mark.parametrize("rows", [200, 4000])
def test_one_point_of_a_hundred_times_the_length_is_told(rng: np.random.Generator, rows: int) -> None:
    points = rng.normal(size=(rows, 64))
    assert iso.measure(points).warnings == ()
    points[5] *= 100
    (warning,) = iso.measure(points).warnings
    assert "longest points hold" in warning
    (warning,) = iso.measure(points.reshape(-1, 2, 64)).warnings
    assert "longest points hold" in warning


def test_heavy_tails_are_no_reason(rng: np.random.Generator) -> None:
    warned = [bool(iso.measure(heavy(rng, (400, 32))).warnings) for _ in range(200)]
    # Less than 1 % of samples, of 200 less than two; seven would be one case in ten thousand.
    assert sum(warned) < 7


def test_a_sample_has_none(rng: np.random.Generator) -> None:
    points = rng.normal(size=(100, 8))
    moments = iso.Moments().update(points)
    assert iso.Measurement.from_moments(moments, points[:50]).longest_points is None
    assert iso.measure(moments).longest_points is None
    assert iso.Measurement.from_moments(moments, points).longest_points == iso.measure(points).longest_points
