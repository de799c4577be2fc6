"""`measure` says where its standard error promises too much, and is silent where it does not."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso

DOUBT = "no 95 % interval"


def doubts(found: iso.Measurement) -> list[str]:
    return [warning for warning in found.warnings if DOUBT in warning]


def clustered(rng: np.random.Generator, groups: int, size: int, share: float, dim: int = 16) -> np.ndarray:
    """Draw points of which a share of the variance lies between groups."""
    centres = np.repeat(rng.normal(size=(groups, dim)), size, axis=0)
    return np.sqrt(share) * centres + np.sqrt(1 - share) * rng.normal(size=(groups * size, dim))


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


def test_too_few_groups_for_a_standard_error(rng: np.random.Generator) -> None:
    found = iso.measure(rng.normal(size=(40, 16)), groups=np.zeros(40))
    assert found.standard_error is None
    assert found.warnings == ("too few points or groups for a standard error",)


def test_fewer_groups_than_dimensions(rng: np.random.Generator) -> None:
    found = iso.measure(clustered(rng, 10, 40, 0.0), groups=np.repeat(np.arange(10), 40))
    assert doubts(found) == [
        "an interval of ±1.96 standard errors is no 95 % interval here: fewer groups (10) than dimensions (16)"
    ]


def test_groups_that_bias_the_score(rng: np.random.Generator) -> None:
    labels = np.repeat(np.arange(60), 16)
    found = iso.measure(clustered(rng, 60, 16, 0.7), groups=labels)
    assert "points that belong together bias the unbiased score by about -" in doubts(found)[0]


def test_labels_of_independent_points_are_no_reason_to_doubt(rng: np.random.Generator) -> None:
    # The estimated bias of such samples is that of the ratio and chance, both of which go with 1/groups, the standard
    # error with 1/√groups: so much of it is met now and then, but in half of the samples only by a wrong rule.
    labels = np.repeat(np.arange(200), 2)
    spread = np.r_[3.0, 2.0, np.ones(14)]
    warned = [bool(doubts(iso.measure(rng.normal(size=(400, 16)) * spread, groups=labels))) for _ in range(40)]
    assert np.mean(warned) < 0.5


def test_the_bias_is_that_of_groups(rng: np.random.Generator) -> None:
    # The truth is 1 (isotropic groups of isotropic points). The estimated biases are on average the true ones to first
    # order in 1/groups. The second is to the first about as that is to the score, some 6 %; the means over 60
    # samples are known to 2.5 % of the bias (their spread over √60), so four of those are 10 %.
    labels = np.repeat(np.arange(100), 4)
    found = [iso.measure(clustered(rng, 100, 4, 0.7), groups=labels) for _ in range(60)]
    truth = np.mean([one.unbiased_score - 1 for one in found])
    assert truth < -0.05
    assert np.mean([one.group_bias for one in found]) == pytest.approx(truth, rel=0.16)
    assert iso.measure(clustered(rng, 100, 4, 0.7)).group_bias is None


def test_the_warning_is_in_the_dictionary(rng: np.random.Generator) -> None:
    found = iso.measure(rng.normal(size=(20, 96)))
    assert found.to_dict()["warnings"] == list(found.warnings)
    assert any(DOUBT in warning for warning in found.to_dict()["warnings"])
