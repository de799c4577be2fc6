"""Losses that are refused, and what is said of mistakes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from support_sentence_transformers import ANCHORS, POSITIVES, features, ranking  # noqa: E402

from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IStarCallback,
    IStarLoss,
)


@pytest.mark.parametrize(
    "make",
    [
        losses.CachedMultipleNegativesRankingLoss,
        losses.MegaBatchMarginLoss,
        lambda model: losses.CachedGISTEmbedLoss(model, guide=copy.deepcopy(model)),
        lambda model: losses.MatryoshkaLoss(model, losses.CachedMultipleNegativesRankingLoss(model), [16, 8]),
    ],
)
def test_gradient_caching_is_refused(model: Any, make: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match="caches gradients"):
        IStarLoss(model, make(model), estimator="unbiased")
    IStarLoss(model, losses.MegaBatchMarginLoss(model, use_mini_batched_version=False), estimator="unbiased")


class WithoutGradients(torch.nn.Module):
    """Embeds as GradCache does, and says nothing of it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: Any, labels: Any) -> Any:
        with torch.no_grad():
            embeddings = [self.model(f)["sentence_embedding"] for f in sentence_features]
        return torch.cat(embeddings).requires_grad_().sum()


class Elsewhere(torch.nn.Module):
    def forward(self, sentence_features: Any, labels: Any) -> Any:
        return torch.zeros(())


def test_states_that_carry_no_gradient_are_refused_when_they_come(model: Any) -> None:
    batch = features(model, ANCHORS, POSITIVES)
    with pytest.raises(iso.InvalidValueError, match="caches gradients"):
        IStarLoss(model, WithoutGradients(model), estimator="unbiased")(batch)
    with pytest.raises(iso.InvalidValueError, match="did not call the model"):
        IStarLoss(model, Elsewhere(), estimator="unbiased")(batch)
    assert not model._forward_hooks


def test_a_covariance_that_was_not_read(model: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match="IStarCallback"):
        IStarLoss(model, ranking(model))(features(model, ANCHORS, POSITIVES))


def test_a_loss_for_each_layer(model: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match="one number"):
        IStarLoss(model, ranking(model), reduction="none")


def test_a_model_without_a_transformer(model: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match="no transformer"):
        IStarLoss(torch.nn.Linear(2, 2), ranking(model))


def test_nothing_to_refresh(model: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match="nothing to refresh"):
        IStarLoss(model, ranking(model), estimator="unbiased").refresh(ANCHORS)


def test_a_callback_of_another_loss(model: Any) -> None:
    with pytest.raises(iso.InvalidTypeError, match="IStarLoss of this module"):
        IStarCallback(ranking(model))
