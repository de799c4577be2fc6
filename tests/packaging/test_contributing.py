"""The backend that CONTRIBUTING.md shows, word for word, announced by an entry point and held to the reference."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest
from adapters import ROOT, random_cov

import isoscore_star as iso
from isoscore_star.core import registry


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the code of the page as an installed package that announces its backend."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## How to add a backend\n")[1].split("\n## ")[0]
    code, entry = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL).group(1) for kind in ("python", "toml"))
    group, name, value = re.search(r'entry-points\."(.+)"\]\n(\w+) = "(.+)"', entry).groups()
    module = ModuleType(value.split(":")[0])
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    points = {registry.ENTRY_POINT_GROUP: [], group: [EntryPoint(name, value, group)]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points[group])
    for cache in ("_loaded", "_name_of_type"):
        monkeypatch.setattr(registry, cache, getattr(registry, cache).copy())
    return module


def test_scores_are_those_of_the_reference(toy: ModuleType, rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 5)) * np.linspace(0.3, 2, 5) + 3
    cov, rows = random_cov(rng, 5), toy.Rows(points)
    assert iso.backend_of(rows).name in iso.available_backends()
    assert isinstance(iso.backend_of(rows), iso.Backend)
    # Sums of 20 products in float64, of numbers that the mean of 3 makes ten times as large as they have to be.
    assert iso.isoscore(rows) == pytest.approx(iso.reference.isoscore_star(points), abs=1e-12)
    assert iso.isoscore_star(rows, cov, 0.4) == pytest.approx(iso.reference.isoscore_star(points, cov, 0.4), abs=1e-12)


def test_masks_and_unions(toy: ModuleType, rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 5))
    kept = np.arange(20) % 3 > 0
    expected = pytest.approx(iso.reference.isoscore_star(points[kept]), abs=1e-12)
    padded = np.where(kept[:, None], points, np.nan)
    assert iso.isoscore(toy.Rows(padded), mask=kept) == expected
    halves = [toy.Rows(padded[:9]), toy.Rows(padded[9:])]
    assert iso.isoscore(halves, mask=[kept[:9], kept[9:]]) == expected


def test_the_score_of_two_halves_of_the_groups(toy: ModuleType, rng: np.random.Generator) -> None:
    points, groups, kept = rng.normal(size=(24, 5)), np.repeat(np.arange(6), 4), np.arange(24) % 3 > 0
    halves = [points[kept & (groups % 2 == half)] for half in (0, 1)]
    expected = pytest.approx(iso.reference.isoscore_halves(*halves), abs=1e-12)
    assert iso.isoscore_unbiased(toy.Rows(points), mask=kept, groups=groups) == expected
    assert 1 - iso.istar_loss(toy.Rows(points), mask=kept, groups=groups, estimator="unbiased") == expected
    anchored = 1 - iso.istar_loss(toy.Rows(points), np.diag(np.arange(1.0, 6)), estimator="anchored")
    assert anchored == pytest.approx(iso.reference.isoscore_anchored(points, np.diag(np.arange(1.0, 6))), abs=1e-12)


def test_the_unbiased_score_and_the_loss(toy: ModuleType, rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 5))
    assert iso.isoscore_unbiased(toy.Rows(points)) == pytest.approx(iso.isoscore_unbiased(points), abs=1e-12)
    penalty = iso.istar_loss(toy.Rows(points), np.eye(5), 0.2, 3.0)
    assert penalty == pytest.approx(3 * (1 - iso.reference.isoscore_star(points, np.eye(5), 0.2)), abs=1e-12)


def test_its_own_arrays_as_covariances_and_any_scale(toy: ModuleType, rng: np.random.Generator) -> None:
    points, cov = rng.normal(size=(20, 5)), random_cov(rng, 5)
    expected = iso.reference.isoscore_star(points, cov, 0.4)
    assert iso.isoscore_star(toy.Rows(points), toy.Rows(cov), 0.4) == pytest.approx(expected, abs=1e-12)
    assert iso.istar_loss(toy.Rows(points), toy.Rows(cov), 0.4, check_values=True) == pytest.approx(
        1 - expected, abs=1e-12
    )
    assert iso.isoscore_from_cov(toy.Rows(cov)) == pytest.approx(iso.isoscore_from_cov(cov), abs=1e-12)
    for scale in (1e200, 1e-200):
        assert iso.isoscore(toy.Rows(points * scale)) == pytest.approx(iso.reference.isoscore_star(points), abs=1e-12)
    assert iso.istar_loss(toy.Rows(points), 0 * cov, 0.3) == pytest.approx(1 - iso.isoscore(points), abs=1e-12)


def test_what_is_wrong_is_refused_as_elsewhere(toy: ModuleType) -> None:
    with pytest.raises(iso.DegenerateDataError, match="identical"):
        iso.isoscore(toy.Rows([[1.0, 2.0]] * 3))
    with pytest.raises(iso.InvalidValueError, match="at least 2 dimensions"):
        iso.isoscore(toy.Rows([[1.0], [2.0]]))
