"""What an isotropy score must not depend on, and where it must go."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import Adapter
from hypothesis import given
from hypothesis import strategies as st

import isoscore_star as iso

seeds = st.integers(0, 2**32 - 1)
# All are the same real number computed by other roundings: ε times the condition of T²/F (at most d), with room.
SAME = 1e-11


def cloud(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Few shapes, since a compiling framework compiles each of them; below, at and above m = d.
    rows, dim = rng.choice([2, 3, 8, 40]), rng.choice([2, 8, 29])
    return rng, rng.normal(size=(rows, dim)) * rng.gamma(0.5, size=dim) + rng.normal(size=dim)


def score(backend: Adapter, *arrays: np.ndarray) -> float:
    natives = [backend.native(array) for array in arrays]
    return backend.value(lambda first: iso.isoscore([first, *natives[1:]]), natives[0])


@pytest.mark.sampled
@given(seed=seeds)
def test_shift_rotation_scale_order(backend: Adapter, seed: int) -> None:
    rng, points = cloud(seed)
    base = score(backend, points)
    rotation, _ = np.linalg.qr(rng.normal(size=(points.shape[1],) * 2))
    assert abs(score(backend, points + 10 * rng.normal(size=points.shape[1])) - base) < SAME
    assert abs(score(backend, points @ rotation) - base) < SAME
    assert abs(score(backend, -3.7 * points) - base) < SAME
    assert abs(score(backend, points[rng.permutation(len(points))]) - base) < SAME
    assert abs(score(backend, points[:, rng.permutation(points.shape[1])]) - base) < SAME


@pytest.mark.sampled
@given(seed=seeds)
def test_repeating_every_row_changes_nothing(backend: Adapter, seed: int) -> None:
    # S only changes by the factor of its ddof, which the score does not see; so this holds without shrinkage alone.
    _, points = cloud(seed)
    assert abs(score(backend, np.repeat(points, 3, axis=0)) - score(backend, points)) < SAME


@pytest.mark.sampled
@given(seed=seeds)
def test_union_is_the_concatenation_in_any_order(backend: Adapter, seed: int) -> None:
    rng, points = cloud(seed)
    cut = int(rng.choice([1, len(points) // 2, len(points) - 1]))
    whole = score(backend, points)
    assert abs(score(backend, points[:cut], points[cut:]) - whole) < SAME
    assert abs(score(backend, points[cut:], points[:cut]) - whole) < SAME


@given(seed=seeds)
def test_leading_axes_are_flattened(backend: Adapter, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(3, 4, 5, 6))
    keep = rng.random((3, 4, 5)) < 0.7
    X = backend.native(points)
    got = backend.value(lambda x: iso.isoscore(x, mask=keep), X)
    assert abs(got - iso.isoscore(points.reshape(-1, 6)[keep.reshape(-1)])) < SAME


@given(seed=seeds)
def test_scores_lie_between_0_and_1(backend: Adapter, seed: int) -> None:
    _, points = cloud(seed)
    slack = 0.0 if backend.name == "numpy" else SAME  # tensors are not cut off, which would cut off their gradient
    assert -slack <= score(backend, points) <= 1 + slack


@pytest.mark.parametrize("dim", [2, 3, 16, 100])
def test_isotropic_is_1_and_one_direction_is_0(backend: Adapter, dim: int) -> None:
    cross = np.vstack([np.eye(dim), -np.eye(dim)])
    assert abs(score(backend, cross) - 1) < SAME
    assert abs(score(backend, np.outer(np.arange(10.0), np.ones(dim)))) < SAME


@pytest.mark.parametrize("dim", [2, 7, 20])
def test_k_equal_directions_of_d(backend: Adapter, dim: int) -> None:
    scores = []
    for used in range(1, dim + 1):
        # Zeros at the mean change nothing; with them there are two shapes, not one to compile for each number.
        points = np.zeros((dim if 2 * used <= dim else 2 * dim, dim))
        points[: 2 * used] = np.vstack([np.eye(dim)[:used], -np.eye(dim)[:used]])
        scores.append(score(backend, points))
        assert abs(scores[-1] - (used - 1) / (dim - 1)) < SAME
        assert abs(iso.isoscore_from_spectrum([1.0] * used + [0.0] * (dim - used)) - (used - 1) / (dim - 1)) < SAME
    assert (np.diff(scores) > 0).all()


@given(seed=seeds)
def test_cov_and_spectrum_agree_with_the_points(backend: Adapter, seed: int) -> None:
    _, points = cloud(seed)
    cov = np.cov(points.T)
    from_cov = backend.value(iso.isoscore_from_cov, backend.native(cov))
    eigenvalues = np.maximum(np.linalg.eigvalsh(cov), 0)
    from_spectrum = backend.value(iso.isoscore_from_spectrum, backend.native(eigenvalues))
    assert abs(from_cov - score(backend, points)) < SAME
    assert abs(from_spectrum - score(backend, points)) < SAME


def test_participation_ratio_is_the_inverse() -> None:
    assert iso.participation_ratio(1.0, 768) == 768
    assert iso.participation_ratio(0.0, 768) == 1
    assert iso.score_from_participation_ratio(iso.participation_ratio(0.3, 10), 10) == pytest.approx(0.3, abs=1e-15)
