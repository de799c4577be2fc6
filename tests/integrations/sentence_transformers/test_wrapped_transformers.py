"""Models in PEFT's manner, which hand on what they are asked and put trained vectors in front."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from support_sentence_transformers import (  # noqa: E402
    ANCHORS,
    POSITIVES,
    close,
    features,
    gradients,
    ranking,
    total,
    union_of_states,
)
from torch import nn  # noqa: E402

from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IStarLoss,
)


class Adapted(nn.Module):
    """Asks its transformer for hidden states only if it is asked itself, whatever the configuration says."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_model = base
        self.config = base.config

    def forward(self, input_ids: Any, attention_mask: Any = None, output_hidden_states: Any = None, **more: Any) -> Any:
        return self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states, **more
        )


class Silent(Adapted):
    def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> Any:
        return super().forward(input_ids, attention_mask)


def test_states_of_a_wrapped_transformer(model: Any) -> None:
    plain = IStarLoss(model, ranking(model), lam=0.7, zeta=0.3)
    plain.refresh(ANCHORS)
    expected = gradients(model, total(plain(features(model, ANCHORS, POSITIVES))))
    states = union_of_states(model, ANCHORS).detach()
    model[0].model = Adapted(model[0].model)
    wrapped = IStarLoss(model, ranking(model), lam=0.7, zeta=0.3)
    wrapped.refresh(ANCHORS)
    assert torch.allclose(wrapped.penalty.shrinkage.cov, torch.cov(states.T), rtol=1e-10, atol=1e-12)
    batch = features(model, ANCHORS, POSITIVES)
    close(gradients(model, total(wrapped(batch))), expected)
    assert not any("output_hidden_states" in part for part in batch)


def test_a_transformer_that_gives_no_states_is_named(model: Any) -> None:
    model[0].model = Silent(model[0].model)
    message = "model: it returned no states of its layers"
    with pytest.raises(iso.InvalidValueError, match=message):
        IStarLoss(model, ranking(model), estimator="unbiased")(features(model, ANCHORS, POSITIVES))
    with pytest.raises(iso.InvalidValueError, match=message):
        IStarLoss(model, ranking(model)).refresh(ANCHORS)


class Prefixed(Adapted):
    """Puts two trained vectors in front, as prompt tuning does, and gives the words' last states."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.peft_config = {"default": SimpleNamespace(num_virtual_tokens=2)}
        self.prompt = nn.Parameter(torch.randn(2, 16, dtype=torch.float64))

    def forward(self, input_ids: Any, attention_mask: Any = None, output_hidden_states: Any = None, **_: Any) -> Any:
        vectors = self.base_model.embeddings.word_embeddings(input_ids)
        vectors = torch.cat([self.prompt.expand(len(vectors), -1, -1), vectors], 1)
        mask = torch.cat([attention_mask.new_ones(len(vectors), 2), attention_mask], 1)
        found = self.base_model(
            inputs_embeds=vectors, attention_mask=mask, output_hidden_states=output_hidden_states, return_dict=True
        )
        found["last_hidden_state"] = found["last_hidden_state"][:, 2:]
        return found


def ones(inputs: Any, outputs: Any) -> Any:
    return torch.ones(outputs["all_layer_embeddings"][0].shape[:-1])


@pytest.mark.parametrize("mask", [None, False, ones])
def test_masks_of_states_of_another_length(model: Any, mask: Any) -> None:
    model[0].model = Prefixed(model[0].model)
    loss = IStarLoss(model, losses.BatchAllTripletLoss(model), estimator="unbiased", mask=mask)
    batch = features(model, ANCHORS)
    inputs = {name: batch[0][name] for name in ("input_ids", "attention_mask")}
    states = model[0].model(**inputs, output_hidden_states=True).hidden_states[1:]
    kept = inputs["attention_mask"].bool()
    points = [state[:, 2:][kept] if mask is None else state.flatten(0, 1) for state in states]
    rows = torch.arange(6)[:, None].expand(states[0].shape[:-1])
    rows = rows[:, 2:][kept] if mask is None else rows.flatten()
    expected = iso.istar_loss(torch.cat(points), estimator="unbiased", groups=rows.repeat(len(points))).item()
    penalty = loss(batch, torch.tensor([0, 0, 1, 1, 2, 2]))["istar_penalty"]
    assert penalty.item() == pytest.approx(expected, rel=1e-12)
