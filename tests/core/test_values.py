"""Values against Algorithm 1 as printed, for every backend: the tolerances are those of the specification."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import Adapter, random_cov
from hypothesis import given
from hypothesis import strategies as st

import isoscore_star as iso
from isoscore_star import reference

SPECTRA = {
    "flat": lambda d: np.ones(d),
    "spike": lambda d: np.r_[100.0, np.ones(d - 1)],
    "power law": lambda d: 1.0 / np.arange(1, d + 1),
    "outlier dimensions": lambda d: np.r_[1e4, 1e3, np.ones(d)][:d],
    "repeated": lambda d: np.repeat([3.0, 1.0], [(d + 1) // 2, d // 2]),
    "zeros": lambda d: np.r_[np.ones((d + 1) // 2), np.zeros(d // 2)],
}


@st.composite
def clouds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw a cloud (float64) and a mask that keeps at least two points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Few shapes, since a compiling framework compiles each of them; below, at and above m = d.
    dim, rows = draw(st.sampled_from([2, 3, 16, 40])), draw(st.sampled_from([3, 16, 41, 90]))
    spectrum = SPECTRA[draw(st.sampled_from(sorted(SPECTRA)))](dim)
    basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    points = (rng.normal(size=(rows, dim)) * np.sqrt(spectrum)) @ basis.T
    mean = draw(st.sampled_from([0.0, 1.0, 100.0])) * rng.normal(size=dim)
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    keep = rng.random(rows) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    keep[:2] = True
    return (points + mean) * scale, keep


# The reference squares entries of eigenvectors' size, we of the covariance: both err by some units of ε = 2e-16.
# Points at 100 standard deviations are themselves only known to 100·ε, the same for both sides.
VALUE_TOLERANCE = 1e-12


@given(case=clouds(), zeta=st.sampled_from([0.0, 0.2, 0.8, 1.0]))
def test_every_backend_gives_algorithm_1(backend: Adapter, case: tuple[np.ndarray, np.ndarray], zeta: float) -> None:
    points, keep = case
    cov = np.cov(points[::2].T) + np.eye(points.shape[1]) * points.var()
    expected = reference.isoscore_star(points[keep], cov, zeta)
    noise = np.where(keep[:, None], points, np.nan)
    X = backend.native(noise)
    got = backend.value(lambda x: iso.isoscore_star(x, cov, zeta, mask=keep), X)
    assert abs(got - expected) < VALUE_TOLERANCE


@pytest.mark.parametrize("dim", [384, 1024])
@pytest.mark.parametrize("rows", [64, 1500])
def test_wide_clouds(backend: Adapter, rng: np.random.Generator, dim: int, rows: int) -> None:
    points = rng.normal(size=(rows, dim)) * np.sqrt(SPECTRA["power law"](dim)) + 5
    cov = random_cov(rng, dim)
    for zeta in (0.0, 0.2):
        got = backend.value(lambda x, z=zeta: iso.isoscore_star(x, cov, z), backend.native(points))
        assert abs(got - reference.isoscore_star(points, cov, zeta)) < VALUE_TOLERANCE


@pytest.mark.parametrize("shape", [(2000, 96), (40, 96)])
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("zeta", [0.0, 0.3])
def test_float32(backend: Adapter, rng: np.random.Generator, shape: tuple[int, int], mean: float, zeta: float) -> None:
    points = rng.normal(size=shape) * np.sqrt(SPECTRA["spike"](shape[1])) + mean
    cov = np.diag(SPECTRA["spike"](shape[1]))
    expected = reference.isoscore_star(backend.rounded(points, "float32"), cov, zeta)
    got = backend.value(lambda x: iso.isoscore_star(x, cov, zeta), backend.native(points, "float32"))
    assert abs(got - expected) < 1e-5


@pytest.mark.parametrize("rows", [40, 3000])
def test_half_precision_is_computed_in_float32(backend: Adapter, rng: np.random.Generator, rows: int) -> None:
    # 300 standard deviations in one dimension: float16 squares overflow, bfloat16 sums lose everything.
    points = rng.normal(size=(rows, 64)) * np.r_[300.0, np.ones(63)]
    for dtype in backend.half_dtypes:
        rounded = backend.rounded(points, dtype)
        got = backend.value(iso.isoscore, backend.native(points, dtype))
        assert abs(got - reference.isoscore_star(rounded)) < 1e-3
        unbiased = backend.value(iso.isoscore_unbiased, backend.native(points, dtype))
        assert abs(unbiased - iso.isoscore_unbiased(rounded)) < 1e-3


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float64", 1e150), ("float64", 1e-150), ("float32", 1e15), ("float32", 1e-15)]
)
@pytest.mark.parametrize("rows", [30, 300])
def test_any_scale(backend: Adapter, rng: np.random.Generator, dtype: str, scale: float, rows: int) -> None:
    points = rng.normal(size=(rows, 48)) * np.linspace(0.1, 3, 48)
    cov = random_cov(rng, 48)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    X = backend.native(points * scale, dtype)
    assert abs(backend.value(iso.isoscore, X) - reference.isoscore_star(points)) < tolerance
    got = backend.value(lambda x: iso.isoscore_star(x, cov * scale**2, 0.3), X)
    assert abs(got - reference.isoscore_star(points, cov, 0.3)) < tolerance
    # The unbiased score multiplies the points' rounding by m·(1 − score) at most; ten times the tolerance covers it.
    unbiased = backend.value(iso.isoscore_unbiased, X)
    assert abs(unbiased - iso.isoscore_unbiased(points)) < 10 * tolerance


def test_integers_are_measured_in_float64(backend: Adapter, rng: np.random.Generator) -> None:
    quantised = rng.integers(-100, 100, size=(50, 8))
    for dtype in ("int8", "int64", "uint8"):
        X = backend.native(quantised % 100, dtype)
        got = float(iso.isoscore(X))
        assert abs(got - reference.isoscore_star(quantised % 100)) < 1e-12


def test_the_answer_has_the_type_of_the_question() -> None:
    torch = pytest.importorskip("torch")
    assert type(iso.isoscore(np.eye(3))) is float
    for dtype in (torch.float64, torch.float32):
        score = iso.isoscore(torch.eye(3, dtype=dtype))
        assert (score.shape, score.dtype, score.device.type) == (torch.Size([]), dtype, "cpu")
    assert iso.isoscore(torch.eye(3, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("rows", [6, 60])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_a_cloud_without_points_adds_nothing_to_a_union(
    backend: Adapter, rng: np.random.Generator, rows: int, order: int, masked: bool
) -> None:
    points, cov = rng.normal(size=(rows, 8)) + 100, random_cov(rng, 8)
    nothing = rng.normal(size=(5, 8)) if masked else np.zeros((0, 8))
    masks = [np.zeros(len(nothing)), np.ones(rows)][::order] if masked else None
    found = backend.value(
        lambda x: iso.isoscore_star([backend.native(nothing), x][::order], cov, 0.3, mask=masks), backend.native(points)
    )
    assert found == pytest.approx(reference.isoscore_star(points, cov, 0.3), abs=VALUE_TOLERANCE)


def test_byte_order_does_not_matter(rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 4))
    assert iso.isoscore(points.astype(">f8")) == pytest.approx(iso.isoscore(points), abs=1e-14)


def test_a_data_frame_counts_as_numpy(rng: np.random.Generator) -> None:
    pandas = pytest.importorskip("pandas")
    points = rng.normal(size=(20, 4))
    # The frame keeps its columns together, so the products may be summed in another order: a few ε.
    frame = pandas.DataFrame(points, columns=list("abcd"))
    assert iso.isoscore(frame) == pytest.approx(iso.isoscore(points), abs=1e-14)
