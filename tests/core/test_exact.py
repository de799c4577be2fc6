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
