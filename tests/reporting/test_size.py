"""A page of the largest models stays under 3 MB, and is drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import report_fakes as fakes

import isoscore_star as iso
from isoscore_star import reporting

LARGEST = 3_000_000


def _large(rng: np.random.Generator, dim: int) -> Any:
    """Stand for a measurement of `dim` dimensions, which it would take minutes to measure."""
    spectrum = np.arange(1, dim + 1) ** -1.1 * rng.uniform(0.9, 1.1, dim)
    variances = rng.gamma(2.0, size=dim)
    variances[rng.integers(dim, size=40)] *= 200
    outliers = [(int(i), float(variances[i] / variances.sum())) for i in np.argsort(-variances)[:60]]
    return SimpleNamespace(
        score=0.1, unbiased_score=0.11, standard_error=0.01, interval=(0.09, 0.13), effective_dimensions=900.0,
        count=100_000, dim=dim, group_count=1000, spectrum=spectrum, variances=variances, outlier_dimensions=outliers,
        warnings=("the interval of the unbiased score is no 95 % interval here",),
    )  # fmt: skip


@pytest.mark.slow
def test_eighty_layers_of_8192(opened: Any, rng: np.random.Generator) -> None:
    states = rng.normal(size=(60, 12, 40)) * np.arange(1, 41) ** -0.5
    explanation = iso.measure(states).explain()
    layers = []
    for i in range(80):
        measurement = _large(rng, 8192)
        without = dict.fromkeys(("first tokens", "special tokens", "first and special tokens"), measurement)
        stability = tuple((2**k, 0.1, 0.1) for k in range(12))
        tokens = tuple(fakes.LongToken(k, k, "token", 0.01) for k in range(10))
        name = f"model.language_model.layers.{i}"
        layers.append(fakes.ScannedLayer(name, measurement, without, explanation, stability, tokens))
    page = reporting.to_html(fakes.Scan("large", tuple(layers), layers[0], layers[1]))
    assert 1_000_000 < len(page.encode()) < LARGEST
    found = opened(page)
    assert found.said == []
    assert found.count("#chart-heat .mark-rect path") == 80 * 40
    assert found.count("#chart-spectrum-log .mark-symbol path") < 100
