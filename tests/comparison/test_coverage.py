"""Intervals cover the true difference in about 95 % of samples; ``paper_checks``, claim 19, is the long form."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso

DRAWS, DIM = 200, 6
LEAST = 0.93 - 3 * np.sqrt(0.93 * 0.07 / DRAWS)
"""Three standard errors of what 200 draws count, below the 93 % that claim 19 requires."""


def ratio(variances: np.ndarray) -> float:
    return float(variances.sum() ** 2 / np.sum(variances**2))


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False], ids=["paired", "two samples"])
@pytest.mark.parametrize("shape", [(64, DIM), (64, 4, DIM)], ids=["points", "sequences"])
def test_coverage(rng: np.random.Generator, shape: tuple[int, ...], paired: bool) -> None:
    scales = np.geomspace(2, 0.5, DIM), np.geomspace(1.5, 0.7, DIM)
    between = np.geomspace(1, 0.1, DIM) if len(shape) == 3 else np.zeros(DIM)
    ratios = [ratio(scale**2 * (1 + between**2)) for scale in scales]
    truth = np.log(ratios[1] / ratios[0]), (ratios[1] - ratios[0]) / (DIM - 1)
    covered, widths = np.zeros(2), []
    for _ in range(DRAWS):
        clouds = [
            rng.normal(size=shape) + between * rng.normal(size=(64, *([1] * (len(shape) - 2)), DIM)) for _ in "ab"
        ]
        row = iso.compare(clouds[0] * scales[0], clouds[0 if paired else 1] * scales[1], paired=paired).rows[0]
        for i, interval in enumerate((row.log_ratio_interval, row.interval)):
            assert interval is not None
            widths.append((interval[1] - interval[0]) / (1.0 if i == 0 else truth[1]))
            covered[i] += interval[0] <= truth[i] <= interval[1]
    assert (covered / DRAWS >= LEAST).all()
    assert np.median(np.abs(widths)) < 1  # no interval without bounds
