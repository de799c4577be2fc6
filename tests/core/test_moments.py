"""Streaming moments, and `measure` with its standard errors."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.core.accumulator import BLOCK_ROWS


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-150, 1e-3, 1.0, 1e150]))
def test_batches_merge_exactly(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rows, dim = int(rng.integers(4, 200)), int(rng.integers(2, 12))
    points = (rng.normal(size=(rows, dim)) * rng.gamma(1, size=dim) + 5 * rng.normal(size=dim)) * scale
    cuts = np.sort(rng.integers(0, rows + 1, size=3))
    parts = [iso.Moments().update(part) for part in np.split(points, cuts)]
    moments = iso.Moments()
    for part in parts:
        moments.merge(part)
    cov = np.cov((points / scale).T)
    assert moments.count == rows
    assert np.allclose(moments.mean, points.mean(axis=0), rtol=1e-12, atol=0)
    # Merging adds δδᵀ of means that err by ε relative to their size, five standard deviations here.
    assert np.abs(moments.cov / scale**2 - cov).max() <= 1e-12 * np.abs(cov).max()
    assert moments.isoscore() == pytest.approx(iso.isoscore(points), abs=1e-11)
    expected = iso.isoscore_unbiased(points)
    assert moments.isoscore_unbiased() == pytest.approx(expected, abs=1e-10 * max(1, abs(expected) * dim))


def test_masks_unions_and_other_frameworks(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    points, keep = rng.normal(size=(2, 30, 4)), rng.random((2, 30)) < 0.5
    noisy = np.where(keep[..., None], points, np.nan)
    expected = iso.isoscore(points[keep])
    assert iso.Moments().update(noisy, keep).isoscore() == pytest.approx(expected, abs=1e-13)
    tensors = [torch.from_numpy(part) for part in noisy]
    got = iso.Moments().update(tensors, list(torch.from_numpy(keep))).isoscore()
    assert got == pytest.approx(expected, abs=1e-13)
    half = torch.from_numpy(points[0]).bfloat16()
    assert iso.Moments().update(half).isoscore() == pytest.approx(iso.isoscore(half.double().numpy()), abs=1e-6)


def test_scores_with_shrinkage(rng: np.random.Generator) -> None:
    points, cov = rng.normal(size=(50, 4)), np.diag([1.0, 2, 3, 4])
    moments = iso.Moments().update(points[:20]).update(points[20:])
    assert moments.isoscore_star(cov, 0.4) == pytest.approx(iso.isoscore_star(points, cov, 0.4), abs=1e-13)


def test_failed_update_takes_nothing_in(rng: np.random.Generator) -> None:
    moments = iso.Moments().update(rng.normal(size=(9, 3)))
    before = pickle.dumps(moments)
    for bad in (np.full((4, 3), np.nan), np.ones((4, 5)), [np.ones((4, 3)), np.full((4, 3), np.inf)]):
        with pytest.raises(iso.InvalidValueError):
            moments.update(bad)
    assert pickle.dumps(moments) == before
    with pytest.raises(iso.InvalidTypeError, match="expected Moments"):
        moments.merge(np.ones((2, 3)))


def test_empty_moments() -> None:
    moments = iso.Moments()
    assert (moments.count, moments.dim) == (0, None)
    for ask in (lambda: moments.mean, lambda: moments.cov, moments.isoscore, moments.isoscore_unbiased):
        with pytest.raises(iso.DegenerateDataError, match="got 0"):
            ask()
    assert repr(iso.Moments().merge(moments).update(np.eye(3))) == "Moments(count=3, dim=3)"


class Watched(np.ndarray):
    """An array that records how many of its rows are taken at a time (none, where it is converted as a whole)."""

    taken: ClassVar[list[int]] = []

    def __getitem__(self, index: object) -> object:
        part = super().__getitem__(index)
        if getattr(part, "ndim", 0) == 2:
            self.taken.append(len(part))
        return np.asarray(part)


@pytest.mark.parametrize("masked", [False, True])
def test_a_memory_mapped_array_is_read_in_blocks(tmp_path: object, rng: np.random.Generator, masked: bool) -> None:
    points, keep = rng.normal(size=(20_000, 5)).astype(np.float32), np.arange(20_000) % 3 > 0
    np.save(f"{tmp_path}/points.npy", points)
    mapped = np.load(f"{tmp_path}/points.npy", mmap_mode="r")
    expected = iso.isoscore((points[keep] if masked else points).astype(np.float64))
    assert iso.isoscore(mapped, mask=keep if masked else None) == pytest.approx(expected, abs=1e-6)
    Watched.taken.clear()
    numpy = iso.get_backend("numpy")
    watched = numpy.points(mapped.view(Watched))
    found = numpy.invariants([watched], [keep if masked else None], None, fourth_order=False)
    assert found.count == (keep.sum() if masked else len(points))
    assert sum(Watched.taken) >= len(points)
    assert max(Watched.taken) <= BLOCK_ROWS < len(points)


def delete_one(points: np.ndarray) -> float:
    """Jackknife the slow way."""
    m = len(points)
    left = np.array([iso.isoscore_unbiased(np.delete(points, i, axis=0)) for i in range(m)])
    return float(np.sqrt((m - 1) / m * np.sum((left - left.mean()) ** 2)))


@pytest.mark.parametrize("shape", [(6, 4), (40, 7), (25, 60)])
def test_standard_error_is_the_jackknife(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    points = rng.normal(size=shape) * np.linspace(0.5, 3, shape[1]) + 4
    found = iso.measure(points)
    assert found.standard_error == pytest.approx(delete_one(points), rel=1e-9)


def test_measurement(rng: np.random.Generator) -> None:
    points = rng.normal(size=(400, 20)) * np.r_[10.0, np.ones(19)]
    cov = np.eye(20)
    found = iso.measure(points, cov, 0.3)
    assert found.score == iso.isoscore_star(points, cov, 0.3)
    assert found.unbiased_score == pytest.approx(iso.isoscore_unbiased(points), abs=1e-13)
    assert found.effective_dimensions == pytest.approx(1 + 19 * found.unbiased_score, abs=1e-12)
    assert np.allclose(found.spectrum, np.linalg.eigvalsh(np.cov(points.T))[::-1], rtol=1e-10)
    assert np.allclose(found.variances, points.var(axis=0, ddof=1), rtol=1e-12)
    (outlier,) = found.outlier_dimensions
    assert outlier.dimension == 0
    assert outlier.variance_share == pytest.approx(points.var(axis=0)[0] / points.var(axis=0).sum(), rel=1e-12)
    assert found.warnings == ()
    assert "fewer points" in iso.measure(points[:10]).warnings[0]
    few = iso.measure(points[:3])
    assert (few.unbiased_score, few.standard_error) == (None, None)


def test_the_interval_covers_the_truth(rng: np.random.Generator) -> None:
    spectrum = np.linspace(0.5, 2, 16)
    truth = iso.isoscore_from_spectrum(spectrum)
    inside = 0
    for _ in range(300):
        found = iso.measure(rng.normal(size=(64, 16)) * np.sqrt(spectrum))
        inside += abs(found.unbiased_score - truth) < 1.96 * found.standard_error
    # 95 % of 300 draws is 285 ± 3.8; four standard deviations to either side.
    assert 285 - 15 <= inside <= 300


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150])
def test_points_that_come_one_by_one_keep_their_fourth_order(rng: np.random.Generator, scale: float) -> None:
    points = rng.normal(size=(30, 8)) * np.linspace(0.5, 2, 8) + 3
    moments = iso.Moments()
    for point in points:
        moments.update(scale * point[None])
    # 30 merges of float64 sums: some 30 roundings of 1e-16, times the estimator's condition of about 10.
    assert moments.isoscore_unbiased() == pytest.approx(iso.isoscore_unbiased(points), abs=1e-12)


def test_halves_are_merged_copied_and_saved(rng: np.random.Generator) -> None:
    """An odd number of sequences first, so that the second batch begins in the other half."""
    states = rng.normal(size=(11, 6, 4)) + 2 * rng.normal(size=(11, 1, 4))
    expected = reference.isoscore_halves(states[0::2].reshape(-1, 4), states[1::2].reshape(-1, 4))
    streamed = iso.Moments().update(states[:5]).update(states[5:])
    merged = iso.Moments().update(states[:5]).merge(iso.Moments().update(states[5:]))
    for moments in (streamed, copy.copy(streamed), pickle.loads(pickle.dumps(streamed))):
        assert abs(moments.isoscore_unbiased() - expected) <= 1e-12
        assert moments.group_count == 11
    twice = iso.Moments().update(states[:5])
    assert twice.merge(twice).isoscore_unbiased() == pytest.approx(
        iso.isoscore_unbiased(np.concatenate([states[:5], states[:5]])), abs=1e-12
    )
    # Numbers count on in a merge, as in updates.
    assert abs(merged.isoscore_unbiased() - expected) <= 1e-12
    with pytest.raises(iso.InvalidValueError, match="independent"):
        streamed.update(states[0]).isoscore_unbiased()
