"""Families of clouds to measure, each (m, d) in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator


def isotropic(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d))


def steep(rng: Generator, m: int, d: int) -> np.ndarray:
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return rng.normal(size=(m, d)) / np.arange(1, d + 1) @ basis


def geometric(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d)) * 10.0 ** -(rng.integers(1, 7) * np.arange(d) % 100)


def rank_one(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.outer(rng.normal(size=m), rng.normal(size=d))


def outlier(rng: Generator, m: int, d: int) -> np.ndarray:
    X = rng.normal(size=(m, d))
    X[rng.integers(m) if rng.random() < 0.5 else 0] += 10.0 ** rng.choice([2, 4, 4, 4, 6, 8])
    return X


def one_hot(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.eye(d)[rng.integers(d, size=m)]


def identical(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.tile(rng.choice([0.1, 1e6, 0.0, 1.0]) * rng.normal(size=d), (m, 1))


def identical_but_for_rounding(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.tile(rng.normal(size=d), (m, 1)) * (1 + rng.choice([2.0**-52, 2.0**-23]) * rng.integers(-2, 3, (m, d)))


def far_away(rng: Generator, m: int, d: int) -> np.ndarray:
    mean = 10.0 ** rng.integers(0, 9) * (rng.normal(size=d) if rng.random() < 0.5 else np.ones(d))
    return rng.normal(size=(m, d)) + mean


def one_column_far_away(rng: Generator, m: int, d: int) -> np.ndarray:
    X = rng.normal(size=(m, d))
    X[:, rng.integers(d)] = 10.0 ** rng.integers(0, 9)
    return X


def two_points(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(2, d))[rng.integers(2, size=m)]


def two_heaps(rng: Generator, m: int, d: int) -> np.ndarray:
    X = rng.normal(size=(m, d))
    X[m // 2 :] += 10.0 ** rng.integers(1, 7)
    return X


def orthogonal(rng: Generator, m: int, d: int) -> np.ndarray:
    X = np.zeros((m, d))
    few = min(m, d, int(rng.integers(1, 5)))
    X[np.arange(few), rng.permutation(d)[:few]] = rng.integers(1, 4, few)
    return X


def grid(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.integers(-3, 4, size=(m, d)).astype(float)


def corners(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.vstack([np.eye(d), -np.eye(d)])[np.arange(m) % (2 * d)]


def heavy_tailed(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.standard_t(1.5, size=(m, d))


def one_ulp(rng: Generator, m: int, d: int) -> np.ndarray:
    X = np.ones((m, d))
    if m:
        X[rng.integers(m), rng.integers(d)] += rng.choice([2.0**-52, 2.0**-23])
    return X


FAMILIES: tuple[Callable[[Generator, int, int], np.ndarray], ...] = (
    isotropic,
    isotropic,
    steep,
    geometric,
    rank_one,
    outlier,
    one_hot,
    identical,
    identical_but_for_rounding,
    far_away,
    far_away,
    one_column_far_away,
    two_points,
    two_heaps,
    orthogonal,
    grid,
    corners,
    heavy_tailed,
    one_ulp,
)


def shrinkage_cov(rng: Generator, d: int, variance: float, dtype: str) -> np.ndarray:
    """Draw a Σ_S of about that variance, or of one many powers of ten away."""
    make = (isotropic, steep, rank_one, outlier, grid)[rng.integers(5)]
    points = make(rng, max(2 * d, 20), d)
    cov = points.T @ points / len(points) if d < 100 else np.diag(rng.gamma(1.0, size=d))
    power = 0.0
    which = rng.random()
    if which > 0.9:
        power = rng.choice([-308, -290, -160, 160, 290, 300]) if dtype == "float64" else rng.choice([-38, -30, 30, 36])
        variance = 1.0
    elif which > 0.7:
        power = rng.uniform(-24, 24)
    with np.errstate(all="ignore"):
        return (cov / 2 + cov.T / 2) * variance * 10.0**power
