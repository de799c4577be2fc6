"""What can be done: only what the numbers support, and the numbers are those of NumPy."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import report_fakes as fakes

import isoscore_star as iso
from isoscore_star import reporting

pytest.importorskip("vl_convert")


def _advice(thing: Any) -> str:
    section = re.search(r'<section id="what-to-do".*?</section>', reporting.to_html(thing, "x"), re.DOTALL)
    assert section is not None
    return html.unescape(re.sub(r"<[^>]+>", "", section[0]))


def _isoscore(points: np.ndarray[Any, Any]) -> float:
    """Score from the eigenvalues of the covariance; of so many points its bias is lost in the digits shown."""
    eigenvalues = np.linalg.eigvalsh(np.cov(points, rowvar=False))
    d = points.shape[1]
    return float((eigenvalues.sum() ** 2 / (eigenvalues**2).sum() - 1) / (d - 1))


def test_a_loud_coordinate_is_named_with_the_score_without_it(rng: np.random.Generator) -> None:
    points = rng.normal(size=(50_000, 12)) * np.r_[1, 1, 1, 9, np.ones(8)]
    text = _advice(iso.measure(points))
    assert "Leave out outlier coordinate 3." in text
    found = re.search(r"The score would be ([\d.]+) in place of (\d\.\d+)", text)
    assert found is not None
    assert float(found[1]) == pytest.approx(_isoscore(np.delete(points, 3, axis=1)) * 10 / 11, abs=2e-3)
    assert float(found[2]) == pytest.approx(_isoscore(points), abs=2e-3)


def test_loud_directions_are_removed_by_a_command(rng: np.random.Generator) -> None:
    rotation = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    points = rng.normal(size=(20_000, 24)) * np.r_[9, np.ones(23)] @ rotation
    text = _advice(iso.measure(points))
    assert "Remove the largest direction." in text
    assert "isoscore-star transform FILE --remove 1 -o new.npy" in text


def test_a_large_mean_is_named_though_the_score_does_not_see_it(rng: np.random.Generator) -> None:
    points = rng.normal(size=(5000, 10)) + 3
    text = _advice(iso.measure(points))
    share = 90 / (90 + 10)
    assert f"The common mean is {share:.0%}".replace("%", " %") in text
    assert "Centre the points." in text


def test_an_even_space_is_left_alone(rng: np.random.Generator) -> None:
    text = _advice(iso.measure(rng.normal(size=(5000, 10))))
    assert "Nothing has to be done" in text
    assert "Leave out" not in text


def test_first_tokens_of_layers_are_named_beside_even_embeddings() -> None:
    scan = fakes.scan()
    better = [
        layer.name
        for layer in scan.layers
        if layer.without["first tokens"].unbiased_score >= 2 * layer.measurement.unbiased_score
    ]
    assert 3 <= len(better) < len(scan.layers)
    assert f"{len(better)} of the {len(scan.layers)} layers score at least twice as high without them" in _advice(scan)


def test_no_tokens_are_named_where_they_change_nothing() -> None:
    scan = fakes.scan()
    layers = tuple(replace(layer, without={"first tokens": layer.measurement}) for layer in scan.layers)
    assert "twice as high" not in _advice(replace(scan, layers=layers))
