"""The verdict names a planted cause, with numbers that are right, and none where there is none."""

from __future__ import annotations

import re

import numpy as np
import pytest

import isoscore_star as iso


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(2000, 64))


def sentences(points: np.ndarray, **known: object) -> list[str]:
    return list(iso.measure(points).explain(**known).sentences)  # type: ignore[arg-type]


def test_isotropic(points: np.ndarray) -> None:
    headline, spectrum, mean = sentences(points)
    assert headline.startswith("Close to isotropic: these points use about 6")
    assert "No single direction" in spectrum
    unit = points / np.linalg.norm(points)
    cosine = (np.sum(unit.sum(axis=0) ** 2) - 1) / 1999  # of all pairs, weighted by their lengths
    assert f"a cosine of {round(cosine, 2) + 0:.2f} on average, weighted by their lengths" in mean


def test_outlier_coordinates(points: np.ndarray) -> None:
    points[:, [5, 9]] *= 20
    _, cause, _ = sentences(points)
    share = points[:, [5, 9]].var(axis=0, ddof=1).sum() / points.var(axis=0, ddof=1).sum()
    rest = iso.isoscore(np.delete(points, [5, 9], axis=1)) * 61 / 63
    assert re.match(r"Outlier coordinates (5, 9|9, 5) hold ", cause)
    assert f"{share:.1%} of the variance" in cause
    assert f"without them the score is {rest:.2f} instead of" in cause


def test_a_rotated_direction(points: np.ndarray, rng: np.random.Generator) -> None:
    points[:, 0] *= 20
    points = points @ np.linalg.qr(rng.normal(size=(64, 64)))[0]
    _, cause, _ = sentences(points)
    assert cause.startswith("The largest direction alone holds")


def test_the_mean(points: np.ndarray) -> None:
    assert "subtracting it removes this part" in sentences(points + 10)[-1]
    assert "have a cosine of 0.99 on average" in sentences(points + 10, average_cosine=0.99)[-1]


def test_long_points_but_not_twice(points: np.ndarray) -> None:
    points[:4] *= 200
    headline, cause = sentences(points)[:2]
    assert headline.startswith("Dominated by a few points: ")
    assert cause.startswith("The longest points (10 of 2,000 points) hold 9")
    parts = {"first tokens": iso.Moments().update(points[:4]), "other tokens": iso.Moments().update(points[4:])}
    found = sentences(points, parts=parts)
    assert any(sentence.startswith("The first tokens (4 of 2,000 points) hold") for sentence in found)
    assert not any("longest" in sentence for sentence in found)


def test_one_direction(rng: np.random.Generator) -> None:
    points = rng.normal(size=(500, 1)) * np.ones(32) + 1e-3 * rng.normal(size=(500, 32))
    assert sentences(points)[0].startswith("Collapsed to one direction: these points use about 1.0 of 32")
