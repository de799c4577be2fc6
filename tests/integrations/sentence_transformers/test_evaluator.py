"""The score of sentence embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from support_sentence_transformers import ANCHORS, POSITIVES  # noqa: E402

from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IsoScoreStarEvaluator,
)


def test_evaluator(model: Any) -> None:
    evaluator = IsoScoreStarEvaluator(ANCHORS + POSITIVES, name="dev")
    embeddings = model.encode(ANCHORS + POSITIVES)
    expected = iso.isoscore_unbiased(embeddings)
    result = evaluator(model)
    assert result["dev_isoscore_star"] == pytest.approx(expected, rel=1e-12)
    assert result["dev_effective_dimensions"] == pytest.approx(1 + 15 * expected, rel=1e-12)
    assert evaluator.primary_metric == "dev_isoscore_star"
    shrunk = IsoScoreStarEvaluator(ANCHORS, np.eye(16), 0.5, "shrinkage")(model)
    assert shrunk["isoscore_star"] == pytest.approx(iso.isoscore_star(model.encode(ANCHORS), np.eye(16), 0.5))
    with pytest.raises(iso.DegenerateDataError, match="at least 4"):
        IsoScoreStarEvaluator(ANCHORS[:3])(model)
