"""Expectations of numerator and denominator over all samples of a tiny population of sequences, enumerated."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import isoscore_star as iso

SEQUENCES = np.array(
    [
        [[3.0, 0.0, 1.0], [2.0, 1.0, 1.0]],
        [[-1.0, 2.0, 0.0], [0.0, 2.5, -1.0]],
        [[0.5, -2.0, 2.0], [-0.5, -1.0, -3.0]],
    ]
)
"""Three equally likely sequences of two tokens in three dimensions, alike within and different between."""

TOKENS = SEQUENCES.shape[1]
POINTS = SEQUENCES.reshape(-1, 3)
SIGMA = np.cov(POINTS.T, ddof=0)
BETWEEN = (TOKENS * np.cov(SEQUENCES.mean(axis=1).T, ddof=0) - SIGMA) / (TOKENS - 1)
"""Σ_b of Σ = Σ_b + Σ_w: means of sequences have the covariance Σ_b + Σ_w/n_g."""


def sampled(groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the means of tr A·tr B, of ⟨A, B⟩ and of A over all samples of so many sequences."""
    products, inners, covs = [], [], []
    backend = iso.get_backend("numpy")
    for drawn in product(range(len(SEQUENCES)), repeat=groups):
        states = SEQUENCES[list(drawn)]
        halves = [states[half::2].reshape(-1, 3) for half in (0, 1)]
        pair = backend.pair([halves[0]], [None], [halves[1]], [None])
        scale = pair.units[0] ** 2 * pair.units[1] ** 2
        products.append(pair.t_a * pair.t_b * scale)
        inners.append(pair.inner * scale)
        covs.append(np.cov(halves[0].T))
    return np.mean(products), np.mean(inners), np.mean(covs, axis=0)


@pytest.mark.parametrize("groups", [4, 6])
def test_halves_are_independent_and_each_lacks_one_part_of_the_variance_between_groups(groups: int) -> None:
    """E A = Σ − c·Σ_b, c = (n_g − 1)/(n − 1) for groups of one size; E of both products is the product of the E's."""
    points = groups // 2 * TOKENS
    expected = SIGMA - (TOKENS - 1) / (points - 1) * BETWEEN
    product_of_traces, inner, cov = sampled(groups)
    assert np.abs(cov - expected).max() <= 1e-12
    assert product_of_traces == pytest.approx(np.trace(expected) ** 2, rel=1e-12)
    assert inner == pytest.approx(np.sum(expected * expected), rel=1e-12)


def test_the_pair_form_of_different_groups_is_exact() -> None:
    """Rows z = √(1 − n_g/n)·(x − x̄_g) + (x̄_g − x̄) and S = n·ZᵀZ/(n² − Σn_g²) have no bias at all."""
    groups = 2
    n = groups * TOKENS
    means = []
    for drawn in product(range(len(SEQUENCES)), repeat=groups):
        states = SEQUENCES[list(drawn)]
        own = states.mean(axis=1, keepdims=True)
        z = np.sqrt(1 - TOKENS / n) * (states - own) + own - states.mean(axis=(0, 1))
        rows = z.reshape(-1, 3)
        means.append(n * rows.T @ rows / (n**2 - groups * TOKENS**2))
    assert np.abs(np.mean(means, axis=0) - SIGMA).max() <= 1e-12
