"""The rows farthest from the mean are those that a sort of all distances finds."""

from __future__ import annotations

import numpy as np
import pytest

from isoscore_star.readers._farthest import Farthest


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_as_a_sort_of_all(rng: np.random.Generator, dtype: type) -> None:
    points = (rng.normal(size=(5000, 70)) * 10 + 30).astype(dtype)
    outliers = rng.choice(5000, 12, replace=False)
    points[outliers] += (np.arange(1, 13)[:, None] * 10).astype(dtype)
    whole, parts = Farthest(), Farthest()
    for block in np.array_split(points, 7):
        part = Farthest()
        whole.take(block)
        part.take(block)
        parts.merge(part)
    away = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    expected = set(np.argsort(-(away**2).sum(axis=1))[:10])
    for found in (whole, parts, Farthest.from_arrays(whole.to_arrays())):
        assert expected <= {int(np.flatnonzero((points == row).all(axis=1))[0]) for row in found.rows}


@pytest.mark.parametrize("scale", [1e-300, 1e300, 1e30])
def test_squares_out_of_range(rng: np.random.Generator, scale: float) -> None:
    dtype = np.float32 if scale == 1e30 else np.float64
    points = (rng.normal(size=(500, 5)) * scale).astype(dtype)
    points[123] *= 50
    found = Farthest()
    found.take(points)
    assert np.array_equal(found.rows[0], points[123])
