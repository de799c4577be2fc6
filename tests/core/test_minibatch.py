"""Stability on mini-batches, as the paper means it, with bounds that follow from the moments of a Gaussian.

For Gaussian points and n = m − 1, E‖S‖²_F = ‖Σ‖²_F·(1 + 1/n) + (tr Σ)²/n. With Σ_S from N more points the F of
IsoScore* is therefore ‖Σ‖²_F·(1 + x) on average, x = (1 + PR)·((1 − ζ)²/n + ζ²/N), and PR* about PR/(1 + x).
The unbiased estimates of tr(Σ²) and (tr Σ)² have the relative variances v = 4/m² + 8·tr Σ⁴/(m·(tr Σ²)²) (Chen, Zhang
& Zhong, JASA 2010) and w = 8/(m·PR). F of S is the first plus (tr Σ)²/n, and ⟨S, Σ⟩ varies less than it, so the F of
IsoScore* varies, relative to its mean, by at most b = (√v + x·√w)/(1 + x). The delta method for a ratio then gives

    |bias| ≤ PR/(d−1)·(x + b² + b·√w + w)/(1 + x)      of IsoScore*
    |bias| ≤ PR/(d−1)·(v + √(v·w))                      of the unbiased score

IsoScore's own bias is the first with ζ = 0, x₀ = (1 + PR)/n: near PR/(d−1) as long as m is far below PR. Likewise the
standard deviations, since that of a sum is at most the sum of its terms' (those of F and of the squared trace):

    spread ≤ PR/(d−1)·(b + √w)/(1 + x)                  of IsoScore*, and of IsoScore with ζ = 0
    spread ≤ PR/(d−1)·(√v + √w)                         of the unbiased score
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import pytest

import isoscore_star as iso

DIM = 768
SPECTRUM = np.r_[10.0, 6.0, 4.0, 4.0, np.ones(DIM - 4)]
PR = SPECTRUM.sum() ** 2 / (SPECTRUM**2).sum()
TRUTH = (PR - 1) / (DIM - 1)
ROWS = (8, 16, 64, 256, 1024, 4096)
ZETAS = (0.2, 0.4, 0.6, 0.8)


def draws(rows: int) -> int:
    return 40 if rows < 4096 else 12


def variances(rows: int) -> tuple[float, float]:
    v = 4 / rows**2 + 8 * (SPECTRUM**4).sum() / (rows * (SPECTRUM**2).sum() ** 2)
    return v, 8 / (rows * PR)


def excess_and_variation(rows: int, zeta: float) -> tuple[float, float]:
    """Give x and b of IsoScore* (of IsoScore for ζ = 0)."""
    v, w = variances(rows)
    x = (1 + PR) * ((1 - zeta) ** 2 / (rows - 1) + zeta**2 / 250_000)
    return x, (np.sqrt(v) + x * np.sqrt(w)) / (1 + x)


def gaussian(rows: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(rows, DIM)) * np.sqrt(SPECTRUM)


@lru_cache(maxsize=1)
def shrinkage_cov() -> np.ndarray:
    moments, rng = iso.Moments(), np.random.default_rng(0)
    for _ in range(25):
        moments.update(gaussian(10_000, rng).astype(np.float32))
    return moments.cov


@cache
def batches(rows: int) -> dict[str, np.ndarray]:
    """Give the scores of some batches: plain, unbiased, and with each ζ."""
    rng = np.random.default_rng(rows)
    found: dict[str, list[float]] = {}
    for _ in range(draws(rows)):
        moments = iso.Moments().update(gaussian(rows, rng))
        found.setdefault("plain", []).append(moments.isoscore())
        found.setdefault("unbiased", []).append(moments.isoscore_unbiased())
        for zeta in ZETAS:
            found.setdefault(f"{zeta}", []).append(moments.isoscore_star(shrinkage_cov(), zeta))
    return {name: np.array(scores) for name, scores in found.items()}


def bias_and_error(scores: np.ndarray) -> tuple[float, float]:
    return float(np.mean(scores) - TRUTH), float(np.std(scores, ddof=1) / np.sqrt(len(scores)))


def test_the_population_value_is_the_one_of_the_specification() -> None:
    assert pytest.approx(0.86734, abs=5e-6) == TRUTH
    assert iso.isoscore_from_spectrum(SPECTRUM) == pytest.approx(TRUTH, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("zeta", ZETAS)
def test_bias_of_isoscore_star(rows: int, zeta: float) -> None:
    (_, w), (x, b) = variances(rows), excess_and_variation(rows, zeta)
    bound = PR / (DIM - 1) * (x + b**2 + b * np.sqrt(w) + w) / (1 + x)
    bias, error = bias_and_error(batches(rows)[f"{zeta}"])
    assert abs(bias) < bound + 4 * error
    plain_bias, error = bias_and_error(batches(rows)["plain"])
    assert abs(plain_bias) > bound + 4 * error


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
def test_bias_of_the_unbiased_score(rows: int) -> None:
    v, w = variances(rows)
    bound = PR / (DIM - 1) * (v + np.sqrt(v * w))
    bias, error = bias_and_error(batches(rows)["unbiased"])
    assert abs(bias) < bound + 4 * error
    plain_bias, error = bias_and_error(batches(rows)["plain"])
    assert abs(plain_bias) > bound + 4 * error


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("score", ["plain", "unbiased", *map(str, ZETAS)])
def test_spread(rows: int, score: str) -> None:
    v, w = variances(rows)
    bound = PR / (DIM - 1) * (np.sqrt(v) + np.sqrt(w))
    if score != "unbiased":
        x, b = excess_and_variation(rows, 0.0 if score == "plain" else float(score))
        bound = PR / (DIM - 1) * (b + np.sqrt(w)) / (1 + x)
    slack = 1 + 4 / np.sqrt(2 * draws(rows))  # the standard deviation of n draws is known to 1/√(2n)
    assert np.std(batches(rows)[score], ddof=1) < slack * bound


def test_spread_of_the_unbiased_score_at_16_points() -> None:
    rng = np.random.default_rng(16)
    spread = np.std([iso.isoscore_unbiased(gaussian(16, rng)) for _ in range(40)], ddof=1)
    # The specification's figure, 0.14; the standard deviation of 40 draws is itself known to 11 %, so 3 × 11 %.
    assert spread == pytest.approx(0.14, rel=0.35)
