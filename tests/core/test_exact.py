"""Hard cases against Algorithm 1 in 50 digits (mpmath): the eigenvalues and every step of it."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from adapters import Adapter

import isoscore_star as iso


def exact_score(points: np.ndarray, cov: np.ndarray | None = None, zeta: float = 0.0) -> mp.mpf:
    with mp.workdps(50):
        X = mp.matrix(points.tolist())
        m, d = X.rows, X.cols
        for j in range(d):
            mean = mp.fsum(X[i, j] for i in range(m)) / m
            for i in range(m):
                X[i, j] -= mean
        sigma = (X.T * X) / (m - 1)
        if cov is not None:
            z = mp.mpf(zeta)
            sigma = (1 - z) * sigma + z * mp.matrix(cov.tolist())
        eigenvalues = mp.eigsy(sigma, eigvals_only=True)
        norm = mp.sqrt(mp.fsum(v**2 for v in eigenvalues))
        defect2 = mp.fsum((mp.sqrt(d) * v / norm - 1) ** 2 for v in eigenvalues) / (2 * (d - mp.sqrt(d)))
        phi = (d - defect2 * (d - mp.sqrt(d))) ** 2 / mp.mpf(d) ** 2
        return (d * phi - 1) / (d - 1)


rng = np.random.default_rng(5)
NOISE = rng.normal(size=(12, 4))
CASES = {
    "d = 2": rng.normal(size=(9, 2)),
    "d = 2, nearly isotropic": np.array([[1.0, 0], [-1, 0], [0, 1 + 1e-9], [0, -1 - 1e-9]]),
    "tiny gaps": np.vstack([np.eye(4), -np.eye(4)]) * (1 + 1e-13 * np.arange(4)),
    "score near zero": NOISE * [1.0, 1e-6, 1e-7, 1e-8],
    "very large": NOISE * 1e150,
    "very small": NOISE * 1e-150,
    "mean far away": NOISE + 1e6,
    "outlier dimension": NOISE * [1e5, 1.0, 1.0, 1.0] + [3e5, 0.0, 0.0, 0.0],
    "m < d": rng.normal(size=(3, 8)),
    "two points": rng.normal(size=(2, 5)),
}


@pytest.mark.parametrize("case", CASES)
def test_exact_value(backend: Adapter, case: str) -> None:
    points = CASES[case]
    got = backend.value(iso.isoscore, backend.native(points))
    # Centring rounds each point by ε times its distance from the first one; with σ = 1 and means up to 1e6 that is
    # still ε. What is left is some ε in T²/F, at most d = 8 times in the score.
    assert abs(mp.mpf(got) - exact_score(points)) < 1e-13


@pytest.mark.parametrize("zeta", [0.2, 0.8])
def test_exact_value_with_shrinkage(backend: Adapter, zeta: float) -> None:
    points, cov = CASES["outlier dimension"], np.cov(rng.normal(size=(50, 4)).T)
    got = backend.value(lambda x: iso.isoscore_star(x, cov, zeta), backend.native(points))
    assert abs(mp.mpf(got) - exact_score(points, cov, zeta)) < 1e-13


def exact_covariance(points: np.ndarray) -> mp.matrix:
    X = mp.matrix(points.tolist())
    for j in range(X.cols):
        mean = mp.fsum(X[:, j]) / X.rows
        for i in range(X.rows):
            X[i, j] -= mean
    return (X.T * X) / (X.rows - 1)


def exact_pair(a: mp.matrix, b: mp.matrix) -> mp.mpf:
    d = a.rows
    trace_a, trace_b = (mp.fsum(c[i, i] for i in range(d)) for c in (a, b))
    inner = mp.fsum(a[i, j] * b[i, j] for i in range(d) for j in range(d))
    return (trace_a * trace_b / inner - 1) / (d - 1)


@pytest.mark.parametrize("case", ["very large", "very small", "mean far away", "outlier dimension"])
def test_exact_value_of_two_halves_and_of_the_anchored_loss(backend: Adapter, case: str) -> None:
    """Rows i and i + 4 are a group; ⟨A, B⟩ of these is no less than tr A·tr B/100."""
    points = CASES[case]
    groups = np.arange(len(points)) % 4
    anchor = np.diag([4.0, 3.0, 2.0, 1.0]) * float(points.std()) ** 2
    with mp.workdps(50):
        halves = exact_pair(*(exact_covariance(points[groups % 2 == half]) for half in (0, 1)))
        target = mp.matrix(anchor.tolist())
        anchored = 2 * exact_pair(exact_covariance(points), target) - exact_pair(target, target)
    X = backend.native(points)
    got = backend.value(lambda x: iso.isoscore_unbiased(x, groups=groups), X)
    # Some ε of tr A·tr B in ⟨A, B⟩, a hundred times as much of the score.
    assert abs(mp.mpf(got) - halves) < 1e-12
    got = 1 - backend.value(lambda x: iso.istar_loss(x, anchor, estimator="anchored"), X)
    assert abs(mp.mpf(got) - anchored) < 1e-12
