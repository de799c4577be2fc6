"""`measure` says where its standard error promises too much, and is silent where it does not."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso

DOUBT = "no 95 % interval"


def doubts(found: iso.Measurement) -> list[str]:
    return [warning for warning in found.warnings if DOUBT in warning]


@pytest.mark.parametrize(("rows", "warns"), [(8, True), (15, True), (16, False), (200, False)])
def test_fewer_points_than_a_quarter_of_the_dimensions(rng: np.random.Generator, rows: int, warns: bool) -> None:
    found = iso.measure(rng.normal(size=(rows, 64)) * np.linspace(0.5, 2, 64))
    assert bool(doubts(found)) == warns
    if warns:
        assert "fewer points than a quarter of the dimensions" in doubts(found)[0]


def test_masked_points_do_not_count(rng: np.random.Generator) -> None:
    points = rng.normal(size=(60, 64))
    assert not doubts(iso.measure(points))
    assert doubts(iso.measure(points, mask=np.arange(60) < 12))


def test_no_standard_error_no_doubt_of_it(rng: np.random.Generator) -> None:
    found = iso.measure(rng.normal(size=(4, 16)))
    assert found.standard_error is None
    assert "too few points or groups for a standard error" in found.warnings
    assert not doubts(found)


@pytest.mark.parametrize(("groups", "warns"), [(6, True), (63, True), (64, False)])
def test_too_few_groups(rng: np.random.Generator, groups: int, warns: bool) -> None:
    found = iso.measure(rng.normal(size=(groups, 1, 16)) + rng.normal(size=(groups, 7, 16)))
    assert found.interval is not None
    assert doubts(found) == (
        [f"the interval of the unbiased score is no 95 % interval here: fewer groups ({groups}) than 64"]
        if warns
        else []
    )


def test_the_warning_is_in_the_dictionary(rng: np.random.Generator) -> None:
    found = iso.measure(rng.normal(size=(20, 96)))
    assert found.to_dict()["warnings"] == list(found.warnings)
    assert any(DOUBT in warning for warning in found.to_dict()["warnings"])
