"""The other measures at the ends of what float64 holds: their value, or an error of the library, and no warning."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from diagnostic_measures import ALL, INTRINSIC, Measure, needs

import isoscore_star as iso
from isoscore_star import diagnostics
from isoscore_star.diagnostics import _neighbours

WITHOUT_SCALE = [measure for measure in ALL if measure is not diagnostics.partition_score]
OF_SPREAD = [WITHOUT_SCALE[1], WITHOUT_SCALE[3], *WITHOUT_SCALE[5:]]


def cloud(rows: int = 60, dim: int = 7) -> np.ndarray:
    return np.random.default_rng(dim).normal(size=(rows, dim)) * np.linspace(0.3, 3, dim) + 0.5


@pytest.mark.parametrize("exponent", [-1000, -700, -540, 540, 700, 1019])
@pytest.mark.parametrize("measure", WITHOUT_SCALE)
def test_a_power_of_two_changes_nothing(measure: Measure, exponent: int) -> None:
    # Multiplying by it rounds nothing as long as no number gets subnormal, which a thousandth of 2**-1000 does not.
    needs(measure)
    X = np.round(cloud(), 3)
    assert measure(np.ldexp(X, exponent)) == measure(X)


@pytest.mark.parametrize("measure", WITHOUT_SCALE)
def test_differences_beyond_the_range_do_not_overflow(measure: Measure) -> None:
    needs(measure)
    X = np.vstack([cloud(), -cloud()])
    X /= np.abs(X).max()
    assert np.isinf(1.7e308 - -1.7e308)
    assert measure(X * 1.7e308) == pytest.approx(measure(X), rel=1e-9)


@pytest.mark.parametrize("measure", ALL)
def test_subnormal_points(measure: Measure) -> None:
    needs(measure)
    X = np.round(cloud() * 1e3)
    expected = 1.0 if measure is diagnostics.partition_score else measure(X)
    assert measure(X * 5e-324) == expected


@pytest.mark.parametrize("dim", [7, 30])
@pytest.mark.parametrize("measure", OF_SPREAD)
def test_points_that_differ_in_their_last_bit(measure: Measure, dim: int) -> None:
    # One plus few units in the last place: every difference is exact, so the spread is that of the units.
    needs(measure)
    units = np.random.default_rng(0).integers(-1, 9, size=(80, dim)).astype(float)
    assert measure(1 + units * 2.0**-52) == pytest.approx(measure(units), rel=1e-9)


@pytest.mark.parametrize("measure", ALL)
def test_a_number_computed_twice(measure: Measure) -> None:
    # Identical but for rounding: there is a value or there is none, but never NaN.
    needs(measure)
    X = np.full((40, 3), 0.3)
    X[:7] = 0.1 + 0.2
    X[:, 2] = np.linspace(0.1, 0.1 + 5e-17, 40) * 3
    try:
        found = measure(X)
    except iso.DegenerateDataError:
        return
    assert isinstance(found, tuple) or not math.isnan(found)  # type: ignore[arg-type]


SQUARES = np.vstack([np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]) + 10 * k for k in range(20)])


@pytest.mark.parametrize("step", [1.0, 0.1])
@pytest.mark.parametrize(
    ("measure", "points"), [(diagnostics.two_nn_dimension, SQUARES), (diagnostics.mle_dimension, np.eye(25))]
)
def test_equal_distances_tell_of_no_dimension(measure: Measure, points: np.ndarray, step: float) -> None:
    # Corners of a square have two neighbours at one distance, those of a simplex all; rounded or not.
    pytest.importorskip("skdim.id")
    with pytest.raises(iso.DegenerateDataError, match="equally far"):
        measure(points * step)


@pytest.mark.parametrize("measure", INTRINSIC)
def test_distances_too_small_for_their_squares(measure: Measure) -> None:
    pytest.importorskip("skdim.id")
    X = cloud() * 1e-170
    X[0] = 1
    with pytest.raises(iso.DegenerateDataError, match="Leave the far points out"):
        measure(X)


def near_duplicates(dim: int) -> np.ndarray:
    """Give each of 40 points two companions, at about 1e-10 and 3e-10 of the points' own distances."""
    rng, X = np.random.default_rng(1), cloud(40, dim)
    return np.vstack([X, X + 1e-10 * rng.normal(size=X.shape), X + 3e-10 * rng.normal(size=X.shape)])


def distances(X: np.ndarray) -> np.ndarray:
    """Give each point's distances to the others, in order, from exact differences."""
    wide = X.astype(np.longdouble)
    return np.array([np.sort(np.sqrt(((wide - x) ** 2).sum(axis=1)))[1:] for x in wide]).astype(float)


@pytest.mark.parametrize("dim", [7, 30, 100])
def test_nearest_distances(dim: int) -> None:
    for X in (cloud(90, dim) / 20, near_duplicates(dim) / 20, near_duplicates(dim) / 1e6 + 0.9):
        expected = distances(X)
        for count in (2, 20, len(X) - 1):
            # Each distance is a root of a sum of d squares: d roundings at most.
            np.testing.assert_allclose(_neighbours.nearest_distances(X, count), expected[:, :count], rtol=dim * 1e-16)


@pytest.mark.parametrize("dim", [7, 30])
def test_near_duplicates_are_neighbours_like_others(dim: int) -> None:
    pytest.importorskip("skdim.id")
    X = near_duplicates(dim)
    nearest = distances(X)
    ratios = np.sort(nearest[:, 1] / nearest[:, 0])[: int(len(X) * 0.9)]
    x, y = np.log(ratios), -np.log(1 - np.arange(1, len(ratios) + 1) / len(X))
    assert diagnostics.two_nn_dimension(X) == pytest.approx(x @ y / (x @ x), rel=1e-9)
    inverse = [np.log(row[4] / row[:4]).mean() for row in nearest]
    assert diagnostics.mle_dimension(X, 5) == pytest.approx(1 / np.mean(inverse), rel=1e-9)


@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_partition_score_of_few_wide_points(scale: float) -> None:
    # Over all eigenvectors, those without a part in the points too, in 40 digits.
    mpmath = pytest.importorskip("mpmath")
    X = cloud(6, 40) * scale
    _, columns = np.linalg.eigh(X.T @ X)
    sums = [mpmath.fsum(mpmath.exp(sign * float(x @ column)) for x in X) for column in columns.T for sign in (1, -1)]
    # An eigenvector is known to some 1e-15, hence an exponent of 2,000 to some 1e-12.
    assert diagnostics.partition_score(X) == pytest.approx(float(min(sums) / max(sums)), rel=1e-9, abs=0)


@pytest.mark.parametrize("scale", [1e-200, 1e200, 1.7e308])
def test_partition_score_of_extreme_points(scale: float) -> None:
    symmetric = np.vstack([np.eye(3), -np.eye(3)])
    assert diagnostics.partition_score(symmetric * scale) == 1.0
    # Unlike axes: exp(scale) over exp(scale/2), or where all exponents vanish over one another, one.
    assert diagnostics.partition_score(symmetric * [scale, scale / 2, scale / 4]) == (1.0 if scale < 1 else 0.0)
    assert diagnostics.partition_score(np.eye(2, 9) * scale) == (1.0 if scale < 1 else 0.0)


@pytest.mark.parametrize("measure", ALL)
def test_few_wide_points_take_no_memory_for_a_covariance(measure: Measure) -> None:
    needs(measure)
    X = cloud(50, 4096)
    measure(X[:, :64])  # what is loaded once does not count
    tracemalloc.start()
    try:
        measure(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The points take 1.6 MB, and the covariance would take 134.
    assert peak < 20e6


def test_numbers_beyond_float64_are_explained() -> None:
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("no wider numbers here")
    for measure in ALL:
        needs(measure)
        with pytest.raises(iso.InvalidValueError):
            measure(cloud() * np.longdouble("1e400"))


def test_parameters_at_their_ends() -> None:
    for call, match in [
        (lambda: diagnostics.varex_score(cloud(), 0.0), "share: expected a number above 0"),
        (lambda: diagnostics.uniformity(cloud(), 1e308), r"t: expected a number in .*1e\+06"),
        (lambda: diagnostics.compare_measures(cloud(), seed=-1), "seed"),
    ]:
        with pytest.raises(iso.InvalidValueError, match=match):
            call()
    with pytest.raises(iso.InvalidTypeError, match="seed"):
        diagnostics.compare_measures(cloud(), seed="a")  # type: ignore[arg-type]


@pytest.mark.parametrize("exponent", [-700, 700])
def test_a_comparison_does_not_depend_on_scale(exponent: int) -> None:
    pytest.importorskip("skdim.id")
    X = np.round(cloud(), 3)
    for found, expected in zip(
        diagnostics.compare_measures(np.ldexp(X, exponent)).rows, diagnostics.compare_measures(X).rows, strict=True
    ):
        if found.name != "partition score":  # which does
            assert found == expected
