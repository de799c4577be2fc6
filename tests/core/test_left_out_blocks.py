"""What is left without a block is the same by subtraction as from the points themselves."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.core.block_error import log_ratios_without


def _log_ratio(first: np.ndarray, second: np.ndarray) -> float:
    a, b = np.cov(first.T), np.cov(second.T)
    return float(np.log(np.trace(a) * np.trace(b) / np.sum(a * b)))


@pytest.mark.parametrize(("dim", "far"), [(6, 0.0), (6, 1e6), (200, 3.0)])
def test_of_groups(dim: int, far: float) -> None:
    rng = np.random.default_rng(0)
    sizes = [4 + number % 3 for number in range(12)]
    points = [rng.normal(size=(size, 5, dim)) * np.r_[5.0, np.ones(dim - 1)] + far for size in sizes]
    found = log_ratios_without([iso.Moments().update(block) for block in points])
    for left_out, ratio in enumerate(found):
        others = [block for number, block in enumerate(points) if number != left_out]
        halves = [np.concatenate([block[half::2].reshape(-1, dim) for block in others]) for half in (0, 1)]
        assert ratio == pytest.approx(_log_ratio(*halves), rel=1e-12 * max(1.0, far))


def test_a_block_that_holds_nearly_all_variance_leaves_its_digits() -> None:
    rng = np.random.default_rng(0)
    points = [rng.normal(size=(6, 5, 8)) for _ in range(10)]
    points[3] *= 1e8
    found = log_ratios_without([iso.Moments().update(block) for block in points])
    others = [block for number, block in enumerate(points) if number != 3]
    halves = [np.concatenate([block[half::2].reshape(-1, 8) for block in others]) for half in (0, 1)]
    assert found[3] == pytest.approx(_log_ratio(*halves), rel=1e-12)
