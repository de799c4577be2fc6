"""`IStarCallback` of Lightning where masks do not fit, λ is 0, or the module cannot be called."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, ROWS, Plain, difference, examples, fit  # noqa: E402

from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402


class Tagged(Plain):
    """Puts a place in front of every sequence, of which the mask knows nothing."""

    def states(self, ids: Any) -> Any:
        tag = torch.full((*ids.shape[:-1], 1), 19)
        return super().states(torch.cat([tag, ids], -1))

    def answer_of(self, last: Any, mask: Any) -> Any:
        return super().answer_of(last[:, 1:], mask)


def with_tag(batch: Any, outputs: Any) -> Any:
    assert outputs.requires_grad or not torch.is_grad_enabled()
    return torch.nn.functional.pad(batch["attention_mask"], (1, 0))


def all_states(model: Any) -> Any:
    ids = torch.stack([row["ids"] for row in examples()])
    return model.states(ids), torch.stack([row["attention_mask"] for row in examples()]).bool()


@pytest.mark.parametrize("mask", [with_tag, False])
def test_a_mask_of_the_users_own(mask: Any) -> None:
    model = Tagged().double()
    states, kept = all_states(model)
    points = torch.cat([state.flatten(0, 1) if mask is False else state[:, 1:][kept] for state in states]).detach()
    callback = IStarCallback({"dim": DIM, "zeta": 0.2}, mask=mask)
    trainer = fit(model, callback, max_epochs=1, batch_size=ROWS)
    cov = torch.cov(points.T)
    assert torch.allclose(callback.penalty.shrinkage.cov, cov, rtol=1e-10, atol=1e-12)
    score = float(iso.isoscore_star(points, cov, 0.2))
    assert float(trainer.callback_metrics["train/isoscore_star"]) == pytest.approx(score, rel=1e-6)  # logged in float32


def test_a_mask_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    message = r"attention_mask: expected shape \(4, 6\).*got \(4, 5\).*Give mask: the name"
    with pytest.raises(iso.InvalidValueError, match=message):
        fit(Tagged().double(), IStarCallback({"dim": DIM, "zeta": 0.0}))
    with pytest.raises(iso.InvalidTypeError, match="mask: expected a name in the inputs, a function"):
        IStarCallback({"dim": DIM}, mask=lambda batch: batch["attention_mask"])


class WithoutForward(Plain):
    forward = pl.LightningModule.forward

    def task(self, batch: Any) -> Any:
        last = self.states(batch["ids"])[-1]
        return (self.answer_of(last, batch["attention_mask"]) - batch["labels"]).square().mean()


class WithFewArguments(WithoutForward):
    def forward(self, ids: Any) -> Any:
        return self.states(ids)


@pytest.mark.parametrize("kind", [Tagged, WithoutForward])
@pytest.mark.parametrize("zeta", [0.0, 0.2])
def test_with_lam_zero_a_fit_is_that_of_the_module_alone(
    kind: Any, zeta: float, caplog: pytest.LogCaptureFixture
) -> None:
    watched, alone = kind().double(), kind().double()
    with caplog.at_level(logging.WARNING, "isoscore_star"):
        fit(watched, IStarCallback({"dim": DIM, "lam": 0.0, "zeta": zeta}), max_epochs=1)
    fit(alone, max_epochs=1)
    assert difference(watched, alone) == 0
    told = [record.message for record in caplog.records if "lam is 0" in record.message]
    assert len(told) == (0 if kind is WithoutForward and zeta == 0 else 1)


def test_with_lam_zero_the_score_is_logged() -> None:
    trainer = fit(Plain().double(), IStarCallback({"dim": DIM, "lam": 0.0}), max_epochs=1)
    assert 0 < float(trainer.callback_metrics["train/isoscore_star"]) < 1
    assert float(trainer.callback_metrics["train/istar_penalty"]) == 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(WithoutForward, "has no forward of its own"), (WithFewArguments, "does not take a batch .*attention_mask")],
)
def test_a_module_that_cannot_be_called_is_told_what_to_do(kind: Any, reason: str) -> None:
    with pytest.raises(iso.InvalidValueError, match=rf"{reason}.*forward=lambda.*running.*unbiased"):
        fit(kind().double(), IStarCallback({"dim": DIM, "zeta": 0.2}))
    callback = IStarCallback({"dim": DIM, "zeta": 0.2}, forward=lambda module, batch: module.states(batch["ids"]))
    fit(kind().double(), callback, max_epochs=1)
    assert callback.penalty.shrinkage.count == 2 * int(sum(row["attention_mask"].sum() for row in examples()))
    fit(kind().double(), IStarCallback(IStarLoss(DIM, shrinkage_cov=ShrinkageCovariance(DIM, "running"))))
