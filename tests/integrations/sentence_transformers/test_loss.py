"""The loss around the losses of sentence-transformers, against the same by hand."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from sentence_transformers import SentenceTransformerTrainer  # noqa: E402
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from support_sentence_transformers import (  # noqa: E402
    ANCHORS,
    NEGATIVES,
    POSITIVES,
    close,
    features,
    gradients,
    ranking,
    rows_of_states,
    total,
    unbiased,
    union_of_states,
)

from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IStarLoss,
)

CASES = {
    "MultipleNegativesRankingLoss": (losses.MultipleNegativesRankingLoss, 2, None),
    "with negatives, merged in one pass": (losses.MultipleNegativesRankingLoss, 3, None),
    "TripletLoss": (losses.TripletLoss, 3, None),
    "CosineSimilarityLoss": (losses.CosineSimilarityLoss, 2, torch.linspace(0, 1, 6, dtype=torch.float64)),
    "one column": (losses.BatchAllTripletLoss, 1, torch.tensor([0, 0, 1, 1, 2, 2])),
    "MatryoshkaLoss": (
        lambda model: losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), [16, 8, 4]),
        2,
        None,
    ),
    "AdaptiveLayerLoss": (
        lambda model: losses.AdaptiveLayerLoss(model, losses.MultipleNegativesRankingLoss(model), n_layers_per_step=-1),
        2,
        None,
    ),
    "a loss of several components": (losses.GlobalOrthogonalRegularizationLoss, 2, None),
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_the_loss_and_the_penalty_of_all_that_was_embedded(model: Any, case: str) -> None:
    make, count, labels = CASES[case]
    columns = [ANCHORS, POSITIVES, NEGATIVES][:count]
    cov = torch.diag(torch.arange(1.0, 17, dtype=torch.float64))
    wrapped = IStarLoss(model, make(model), lam=0.7, zeta=0.3, shrinkage_cov=cov)
    result = wrapped(features(model, *columns), labels)
    assert result["istar_penalty"].item() > 0
    ours = gradients(model, total(result))

    task = total(make(model)(features(model, *columns), labels))
    expected = gradients(model, task + iso.istar_loss(union_of_states(model, *columns), cov, 0.3, 0.7))
    close(ours, expected)
    assert not model[0].auto_model.config.output_hidden_states
    assert not model._forward_hooks


def test_chosen_layers_and_estimator(model: Any) -> None:
    for layers, part in (([-1], slice(2, None)), ([0, 2], slice(0, None, 2))):
        wrapped = IStarLoss(
            model, losses.MultipleNegativesRankingLoss(model), estimator="unbiased", layers=layers, target=0.5
        )
        penalty = wrapped(features(model, ANCHORS, POSITIVES))["istar_penalty"]
        rows = rows_of_states(model, ANCHORS, POSITIVES, layers=part)
        score = iso.isoscore_unbiased(union_of_states(model, ANCHORS, POSITIVES, layers=part).detach(), groups=rows)
        ratio = (1 + 15 * score) / (1 + 15 * 0.5)
        assert penalty.item() == pytest.approx(ratio.log().square().item(), rel=1e-12)


def test_each_layer_over_all_columns(model: Any) -> None:
    wrapped = IStarLoss(model, losses.TripletLoss(model), estimator="unbiased", reduction="mean", log_layers=True)
    wrapped(features(model, ANCHORS, POSITIVES, NEGATIVES))
    columns = (ANCHORS, POSITIVES, NEGATIVES)
    rows = rows_of_states(model, *columns, layers=slice(1))
    first, last = (
        iso.isoscore_unbiased(union_of_states(model, *columns, layers=slice(i, i + 1)).detach(), groups=rows).item()
        for i in (1, 2)
    )
    logged = wrapped.penalty.collect()
    assert logged["isoscore_star/layer_01"] == pytest.approx(first, rel=1e-12)
    assert logged["isoscore_star/layer_02"] == pytest.approx(last, rel=1e-12)
    assert logged["isoscore_star"] == pytest.approx((first + last) / 2, rel=1e-12)


def test_evaluation_gives_the_wrapped_loss_alone(model: Any) -> None:
    base = losses.MultipleNegativesRankingLoss(model)
    wrapped = IStarLoss(model, base, estimator="unbiased")
    model.eval()
    batch = features(model, ANCHORS, POSITIVES)
    assert torch.equal(wrapped(batch), base(features(model, ANCHORS, POSITIVES), None))
    assert wrapped.penalty.collect() == {}


class Packed(torch.nn.Module):
    """Gives a model's states without a mask, as for inputs that were packed without padding, or with a wrong one."""

    def __init__(self, model: Any, masks: list[Any]) -> None:
        super().__init__()
        self.inside, self.masks = model, iter(masks)

    def forward(self, batch: Any) -> Any:
        output = dict(self.inside(batch))
        mask = next(self.masks)
        return {k: v for k, v in output.items() if k != "attention_mask"} | ({} if mask is None else mask)


def test_states_without_a_mask_all_count(model: Any) -> None:
    packed = Packed(model, [None, {"attention_mask": torch.ones(6, 1)}, None, None])
    loss = IStarLoss(packed, losses.MultipleNegativesRankingLoss(packed), estimator="unbiased")
    with pytest.raises(iso.InvalidValueError, match="attention_mask"):
        loss(features(model, ANCHORS, POSITIVES))
    batches = features(model, ANCHORS, POSITIVES)
    penalty = loss(batches)["istar_penalty"]
    everything = []
    for batch in features(model, ANCHORS, POSITIVES):
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        everything += model[0].auto_model(**inputs, output_hidden_states=True).hidden_states[1:]
    assert penalty.item() == pytest.approx(iso.istar_loss(everything, estimator="unbiased").item(), rel=1e-12)


def test_refresh_reads_the_covariance_of_the_states(model: Any) -> None:
    wrapped = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), zeta=0.5)
    wrapped.refresh(ANCHORS + POSITIVES, batch_size=5)
    assert model.training
    truth = np.cov(union_of_states(model, ANCHORS, POSITIVES).detach().numpy().T)
    assert np.abs(wrapped.penalty.shrinkage.cov.numpy() - truth).max() < 1e-12 * np.abs(truth).max()
    cov = ShrinkageCovariance(16, layers=[2], skip_embeddings=True)
    few = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), layers=[2], shrinkage_cov=cov)
    few.refresh(ANCHORS, max_points=12)
    assert few.penalty.shrinkage.count == 12


def test_wrapped_models(model: Any) -> None:
    """DDP and torch.compile stand around the model, and the trainer puts them into the losses' `model`."""
    plain = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), estimator="unbiased", lam=2.0)
    expected = gradients(model, total(plain(features(model, ANCHORS, POSITIVES))))
    trainer = SentenceTransformerTrainer.__new__(SentenceTransformerTrainer)  # the method needs nothing of it
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrappers = [
                torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True),
                torch.compile(model, backend="eager"),
            ]
            for wrapper in wrappers:
                loss = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), estimator="unbiased", lam=2.0)
                loss = trainer.override_model_in_loss(loss, wrapper)
                model.zero_grad()
                total(loss(features(model, ANCHORS, POSITIVES))).backward()
                found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
                close(found, expected)
    finally:
        torch.distributed.destroy_process_group()


def test_with_lam_zero_training_is_that_of_the_loss_alone(model: Any, caplog: Any) -> None:
    expected = gradients(model, ranking(model)(features(model, ANCHORS, POSITIVES), None))

    def wrong(inputs: Any, outputs: Any) -> Any:
        return torch.ones(1, 2)

    for mask in (None, wrong):
        loss = IStarLoss(model, ranking(model), lam=0.0, zeta=0.0, mask=mask)
        with caplog.at_level(logging.WARNING, "isoscore_star"):
            result = loss(features(model, ANCHORS, POSITIVES))
        found = gradients(model, total(result))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert set(result) == {"task_loss", "istar_penalty"}
        assert ("isoscore_star" in loss.penalty.collect()) == (mask is None)
    assert len(caplog.records) == 1
    assert "lam is 0" in caplog.text
    with pytest.raises(iso.InvalidValueError, match="mask: expected shape"):
        IStarLoss(model, ranking(model), zeta=0.0, mask=wrong)(features(model, ANCHORS, POSITIVES))


def test_config_for_the_model_card(model: Any) -> None:
    config = unbiased(model).get_config_dict()
    assert config["loss"] == "MultipleNegativesRankingLoss"
    assert (config["lam"], config["estimator"]) == (0.5, "unbiased")
    assert "Rudman" in unbiased(model).citation
