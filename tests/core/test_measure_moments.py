"""`measure` of moments: all but the standard error, which `Measurement.from_moments` has of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import isoscore_star as iso


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(300, 20)) * np.geomspace(6, 0.3, 20) + 1


@pytest.fixture
def moments(points: np.ndarray) -> iso.Moments:
    found = iso.Moments()
    for batch in np.split(points, 6):
        found.update(batch)
    return found


@pytest.mark.parametrize("zeta", [0.0, 0.3])
def test_moments_are_measured_like_their_points(points: np.ndarray, moments: iso.Moments, zeta: float) -> None:
    cov = np.diag(np.geomspace(1, 9, 20))
    found, expected = iso.measure(moments, cov, zeta), iso.measure(points, cov, zeta)
    # Sums in another order: 300 roundings of 1e-16, and some more in a ratio of sums.
    assert found.score == pytest.approx(iso.reference.isoscore_star(points, cov, zeta), abs=1e-12)
    assert found.unbiased_score == pytest.approx(expected.unbiased_score, abs=1e-12)
    assert found.effective_dimensions == pytest.approx(expected.effective_dimensions, abs=1e-11)
    assert (found.count, found.dim) == (300, 20)
    np.testing.assert_allclose(found.mean, points.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(points.T), atol=1e-11)
    np.testing.assert_allclose(found.spectrum, np.linalg.eigvalsh(np.cov(points.T))[::-1], rtol=1e-9)
    assert [o.dimension for o in found.outlier_dimensions] == [o.dimension for o in expected.outlier_dimensions]


def test_moments_alone_have_no_standard_error_and_say_so(moments: iso.Moments) -> None:
    found = iso.measure(moments)
    assert found.standard_error is None
    assert found.warnings == (
        "no standard error, which needs the points themselves, a random sample of them, or eight blocks",
    )


def test_rows_give_the_standard_error(points: np.ndarray, moments: iso.Moments) -> None:
    expected = iso.measure(points)
    found = iso.Measurement.from_moments(moments, np.random.default_rng(0).permutation(points))
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)
    assert found.warnings == expected.warnings == ()


@pytest.mark.parametrize("name", ["mask", "groups"])
def test_what_points_alone_have_is_refused(moments: iso.Moments, name: str) -> None:
    with pytest.raises(iso.InvalidValueError, match=f"{name}: expected none with Moments"):
        iso.measure(moments, **{name: np.ones(300)})


def test_moments_of_nothing(rng: np.random.Generator) -> None:
    with pytest.raises(iso.DegenerateDataError, match="needs at least 2 points; got 0"):
        iso.measure(iso.Moments())


POINTS = np.random.default_rng(5).normal(size=(20, 4))


@pytest.mark.parametrize(
    ("rows", "groups", "message"),
    [
        (POINTS[:, :3], None, "rows: expected 2 to 20 finite points of 4 dimensions"),
        (POINTS[:1], None, "rows: .* got 1 of 4"),
        (np.vstack([POINTS, POINTS]), None, "rows: .* got 40 of 4"),
        (np.where(POINTS > 1, np.nan, POINTS), None, "rows: .*finite"),
        (POINTS[0], None, "X: expected points as rows"),
        (POINTS, np.arange(20), "groups: expected none, since the moments are of independent points"),
        (None, np.arange(20), "groups: expected none without rows"),
    ],
)
def test_rows_and_groups_that_do_not_fit(rows: Any, groups: Any, message: str) -> None:
    with pytest.raises(iso.InvalidValueError, match=message):
        iso.Measurement.from_moments(iso.Moments().update(POINTS), rows, groups)


def test_moments_are_needed() -> None:
    with pytest.raises(iso.InvalidTypeError, match="moments: expected Moments; got ndarray"):
        iso.Measurement.from_moments(POINTS)
