"""Right numbers where sums lose digits or squares leave the range: far points, far means, any scale of S and of Σ_S."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from adapters import Adapter

import isoscore_star as iso
from isoscore_star import reference

# isoscore_star promises 1e-12 in float64 and 1e-5 in float32, against the exact score of the very points given.
PROMISED = {"float64": 1e-12, "float32": 1e-5}


def exact(points: np.ndarray) -> float:
    """T²/F in 80-bit floats, of points that are shifted and scaled before anything is rounded."""
    x = points.astype(np.longdouble)
    x = x - x[0]
    x = x / np.abs(x).max()
    x = x - x.mean(axis=0)
    scatter = x.T @ x
    return float((np.trace(scatter) ** 2 / np.sum(scatter**2) - 1) / (points.shape[1] - 1))


def far_point(rows: int, dim: int) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(rows, dim))
    points[0] += 1e4
    return points


def one_hot(rows: int, dim: int) -> np.ndarray:
    return np.eye(dim)[np.random.default_rng(0).integers(0, dim, size=rows)]


FLOAT32_SUMS = {
    # A float32 sum of all rows loses the others beside the far point: entries of 1e8, whose digits end at 8.
    "a far point": far_point(10**6, 2),
    "a far point last": far_point(10**5, 3)[::-1],
    # Equal terms round the same way each time.
    "one-hot rows": one_hot(100_000, 3),
    "wide": far_point(20_000, 130),
    "a far mean": 100 + np.random.default_rng(1).normal(size=(30_000, 4)),
}


@pytest.mark.parametrize("case", FLOAT32_SUMS)
def test_float32_keeps_its_promise_in_long_sums(backend: Adapter, case: str) -> None:
    points = FLOAT32_SUMS[case].astype(np.float32)
    expected = exact(points.astype(np.float64)) if points.shape[1] < 100 else reference.isoscore_star(points)
    assert backend.value(iso.isoscore, backend.native(points)) == pytest.approx(expected, abs=PROMISED["float32"])


def test_float32_keeps_its_promise_masked_and_as_a_union(backend: Adapter) -> None:
    points = far_point(200_000, 2).astype(np.float32).reshape(4, -1, 2)
    keep = np.random.default_rng(1).random(points.shape[:2]) < 0.9
    keep[0, 0] = True
    expected = exact(points[keep].astype(np.float64))
    layers, masks = [backend.native(part) for part in points], list(keep)

    def loss(first: object) -> object:
        return 1 - iso.istar_loss([first, *layers[1:]], zeta=0.0, mask=masks)

    assert backend.value(loss, layers[0]) == pytest.approx(expected, abs=PROMISED["float32"])


@pytest.mark.parametrize("rows", [40, 20_000])
@pytest.mark.parametrize("far", [1e6, 1e8])
def test_a_far_mean_costs_no_digits(backend: Adapter, far: float, rows: int) -> None:
    points = far * np.array([1.0, -1, 0.3]) + np.random.default_rng(2).normal(size=(rows, 3)) * [1, 2, 0.5]
    expected = exact(points)
    parts = [backend.native(part) for part in np.array_split(points, 7)]
    assert reference.isoscore_star(points) == pytest.approx(expected, abs=1e-12)
    assert backend.value(iso.isoscore, backend.native(points)) == pytest.approx(expected, abs=1e-12)
    assert float(iso.isoscore(parts)) == pytest.approx(expected, abs=1e-12)
    streamed, merged = iso.Moments(), iso.Moments()
    for part in parts:
        streamed.update(part)
        merged.merge(iso.Moments().update(part))
    assert streamed.isoscore() == pytest.approx(expected, abs=1e-12)
    assert merged.isoscore() == pytest.approx(expected, abs=1e-12)
    assert iso.measure(parts).score == pytest.approx(expected, abs=1e-12)


def test_identical_points_plus_rounding_score_as_the_very_points_do(backend: Adapter) -> None:
    points = np.full((9000, 4), 0.1) + np.random.default_rng(3).integers(0, 3, size=(9000, 4)) * 2.0**-56
    assert len(np.unique(points)) > 1
    expected = exact(points)
    assert backend.value(iso.isoscore, backend.native(points)) == pytest.approx(expected, abs=1e-12)
    moments = iso.Moments()
    for part in np.array_split(points, 10):
        moments.update(part)
    assert moments.isoscore() == pytest.approx(expected, abs=1e-12)


SCALES = [("float64", 1e-300), ("float64", 1e-200), ("float64", 1e200), ("float64", 1e300)]
SCALES += [("float32", 1e-30), ("float32", 1e-23), ("float32", 1e20), ("float32", 1e35)]


@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@pytest.mark.parametrize("rows", [8, 600])
def test_no_scale_of_the_points_changes_a_score(backend: Adapter, dtype: str, scale: float, rows: int) -> None:
    points = (np.random.default_rng(4).normal(size=(rows, 500)) * np.linspace(0.2, 2, 500) * scale).astype(dtype)
    expected = reference.isoscore_star(points)
    X, promised = backend.native(points), PROMISED[dtype]
    assert backend.value(iso.isoscore, X) == pytest.approx(expected, abs=promised)
    assert backend.value(lambda X: 1 - iso.istar_loss(X, zeta=0.0), X) == pytest.approx(expected, abs=promised)
    # The score of points in a unit of their own; the unbiased one of few points divides by a small difference.
    ordinary = iso.isoscore_unbiased(points.astype(np.float64) / scale)
    assert backend.value(iso.isoscore_unbiased, X) == pytest.approx(ordinary, abs=100 * promised)
    assert iso.Moments().update(X).isoscore() == pytest.approx(expected, abs=promised)
    assert iso.measure(X).score == pytest.approx(expected, abs=promised)


@pytest.mark.parametrize(("dtype", "scale"), [("float64", 1e-150), ("float64", 1e150), ("float32", 1e-25)])
@pytest.mark.parametrize("rows", [8, 60])
def test_no_scale_of_the_points_changes_a_gradient(
    differentiable: Adapter, dtype: str, scale: float, rows: int
) -> None:
    points = np.random.default_rng(5).normal(size=(rows, 20)) * np.linspace(0.2, 2, 20)
    ordinary = differentiable.gradient(iso.isoscore, differentiable.native(points))
    scaled = (points * scale).astype(dtype)
    got = differentiable.gradient(iso.isoscore, differentiable.native(scaled)).astype(np.float64) * scale
    # Rounding the points moves the gradient, too; by a few ε of it.
    assert np.abs(got - ordinary).max() <= 20 * PROMISED[dtype] * np.abs(ordinary).max()


@pytest.mark.parametrize(
    ("dtype", "scale", "cov_scale"),
    [
        ("float32", 1.0, 1e-24),
        ("float32", 1.0, 1e24),
        ("float32", 1e-15, 1e30),
        ("float32", 1e15, 1e-30),
        ("float64", 1.0, 1e-200),
        ("float64", 1e-150, 1e290),
        ("float64", 1e150, 1e-290),
        ("float64", 1.0, 1e308),
    ],
)
@pytest.mark.parametrize("rows", [8, 60])
def test_any_scale_of_the_shrinkage_covariance(
    backend: Adapter, dtype: str, scale: float, cov_scale: float, rows: int
) -> None:
    rng = np.random.default_rng(6)
    points = (rng.normal(size=(rows, 20)) * np.linspace(0.2, 2, 20) * scale).astype(dtype)
    cov = (np.diag(np.linspace(0.3, 1, 20)) * cov_scale).astype(dtype)
    X, promised = backend.native(points), PROMISED[dtype]
    alone, own = reference.score_from_eigenvalues(np.linspace(0.3, 1, 20)), reference.isoscore_star(points)
    expected = own if scale**2 > cov_scale else alone  # beside which the other counts for nothing
    for zeta, score in ((1.0, alone), (0.4, expected)):
        if zeta != 1 and 1e-9 < scale**2 / cov_scale < 1e9:
            continue
        assert backend.value(lambda X, z=zeta: iso.isoscore_star(X, cov, z), X) == pytest.approx(score, abs=promised)
        loss = backend.value(lambda X, z=zeta: 1 - iso.istar_loss(X, cov, z), X)
        assert loss == pytest.approx(score, abs=promised)
        assert iso.Moments().update(X).isoscore_star(cov, zeta) == pytest.approx(score, abs=promised)
        assert iso.measure(X, cov, zeta).score == pytest.approx(score, abs=promised)
        assert reference.isoscore_star(points, cov, zeta) == pytest.approx(score, abs=promised)


@pytest.mark.parametrize(("dtype", "largest"), [("float64", 1e308), ("float64", 1e-307), ("float32", 1e38)])
def test_covariances_and_spectra_at_the_ends_of_the_range(backend: Adapter, dtype: str, largest: float) -> None:
    cov = (np.diag([1.0, 1.0, 0, 0, 0.5]) * largest).astype(dtype)
    expected = reference.score_from_eigenvalues(np.array([1.0, 1.0, 0, 0, 0.5]))
    promised = PROMISED[dtype]
    spectrum = backend.native(np.ascontiguousarray(cov.diagonal()))
    if largest < 1 and getattr(iso.get_backend(backend.name), "flushes_subnormals", False):
        for function, array in ((iso.isoscore_from_cov, backend.native(cov)), (iso.isoscore_from_spectrum, spectrum)):
            with pytest.raises(iso.InvalidValueError, match="too small for the digits"):
                function(array)
        return
    assert backend.value(iso.isoscore_from_cov, backend.native(cov)) == pytest.approx(expected, abs=promised)
    assert backend.value(iso.isoscore_from_spectrum, spectrum) == pytest.approx(expected, abs=promised)


def test_digits_that_are_lost_are_not_made_up() -> None:
    for function, value in ((iso.isoscore_from_cov, np.eye(4)), (iso.isoscore_from_spectrum, np.ones(4))):
        with pytest.raises(iso.InvalidValueError, match="too small for the digits"):
            function(value * 1e-315)


def test_moments_of_batches_far_beyond_squares() -> None:
    points = np.random.default_rng(7).normal(size=(40, 5)) * 1e160
    moments = iso.Moments().update(points[:20]).update(points[20:])
    assert moments.isoscore() == pytest.approx(exact(points), abs=1e-12)
    with pytest.raises(iso.InvalidValueError, match="variances of these values overflow"):
        _ = moments.cov


@pytest.mark.parametrize("rows", [4, 5, 38, 1000, 8192, 100_000])
def test_an_unbiased_denominator_of_zero_is_said(backend: Adapter, rows: int) -> None:
    points = np.zeros((rows, 2))
    points[0, 0], points[1, 1] = 1, 2  # all differences that count are orthogonal: tr(Σ²) is estimated as 0
    for dtype in ("float64", "float32"):
        X = backend.native(points.astype(dtype))
        with pytest.raises(iso.DegenerateDataError, match="not positive"):
            iso.isoscore_unbiased(X)
        with pytest.raises(iso.DegenerateDataError, match="not positive"):
            iso.Moments().update(X).isoscore_unbiased()
        assert iso.measure(X).unbiased_score is None


def test_half_precision_is_judged_by_what_it_is_computed_in() -> None:
    # 16 nearly orthogonal points: the estimate of tr(Σ²) is 5e-7 of its terms, nothing but rounding in float32 (whose
    # bound is 5e-6) and plain in float64. All values are numbers of float16.
    points = np.kron(np.eye(16), np.ones(64)) * 512 + np.random.default_rng(8).integers(-1, 2, size=(16, 1024))
    assert np.array_equal(points, points.astype(np.float16))
    with pytest.raises(iso.DegenerateDataError):
        iso.isoscore_unbiased(points.astype(np.float32))
    assert iso.isoscore_unbiased(points.astype(np.float16)) == pytest.approx(iso.isoscore_unbiased(points), rel=1e-9)


@pytest.mark.parametrize("cov_scale", [1e-290, 1e290])
def test_a_covariance_beyond_float32_is_said(backend: Adapter, cov_scale: float) -> None:
    points, cov = np.random.default_rng(9).normal(size=(9, 3)), np.diag([1.0, 2, 3]) * cov_scale
    X = backend.native(points.astype(np.float32))
    if float64_inside(backend):
        alone = reference.score_from_eigenvalues(np.array([1.0, 2, 3]))
        assert backend.value(lambda X: iso.isoscore_star(X, cov, 1.0), X) == pytest.approx(alone, abs=1e-12)
    else:
        with pytest.raises(iso.InvalidValueError, match="shrinkage_cov: its values leave the range of float32"):
            iso.isoscore_star(X, cov, 1.0)


def float64_inside(backend: Adapter) -> bool:
    return backend.name in ("numpy", "autograd")


@pytest.mark.parametrize(
    ("dtype", "scale", "cov_scale", "zeta", "of_cov"),
    [
        ("float64", 1.0, 1e300, 1e-300, None),
        ("float64", 1e-200, 1.0, 1e-170, True),
        ("float32", 1e-17, 1.0, 1e-20, True),
        ("float32", 1.0, 1e10, 1e-20, False),
    ],
)
def test_a_tiny_zeta_beside_distant_scales(
    backend: Adapter, dtype: str, scale: float, cov_scale: float, zeta: float, of_cov: bool | None
) -> None:
    points = (np.random.default_rng(10).normal(size=(60, 8)) * np.linspace(0.3, 2, 8) * scale).astype(dtype)
    spectrum = np.linspace(0.2, 1, 8)
    if of_cov is None:  # both count alike
        mixed = np.cov(points.T) + np.diag(spectrum)
        expected = reference.score_from_eigenvalues(np.linalg.eigvalsh(mixed))
    else:
        expected = reference.score_from_eigenvalues(spectrum) if of_cov else reference.isoscore_star(points)
    cov = (np.diag(spectrum) * cov_scale).astype(dtype)
    got = backend.value(lambda X: iso.isoscore_star(X, cov, zeta), backend.native(points))
    assert got == pytest.approx(expected, abs=PROMISED[dtype])


def test_moments_copied_stand_alone() -> None:
    points = np.random.default_rng(11).normal(size=(60, 5))
    moments = iso.Moments().update(points)
    before = moments.isoscore()
    assert copy.copy(moments).update(10 + points[:7]).count == 67
    assert (moments.count, moments.isoscore()) == (60, before)


def test_a_covariance_that_underflows_is_said() -> None:
    moments = iso.Moments().update(np.random.default_rng(12).normal(size=(60, 5)) * 1e-170)
    assert moments.isoscore() > 0.5
    with pytest.raises(iso.InvalidValueError, match="variances of these values underflow"):
        _ = moments.cov
