"""A fit with `IStarCallback`, against modules whose own ``training_step`` has the penalty written into it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, ByHand, Plain, difference, fit  # noqa: E402

from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_equals_a_training_step_written_by_hand(accumulate: int, estimator: str) -> None:
    cov = None if estimator == "unbiased" else torch.diag(torch.arange(1.0, DIM + 1, dtype=torch.float64))
    options: dict[str, Any] = {"lam": -0.5, "zeta": 0.3, "shrinkage_cov": cov, "estimator": estimator}
    by_hand, plain, without = ByHand(IStarLoss(DIM, **options)).double(), Plain().double(), Plain().double()
    trainer: dict[str, Any] = {"accumulate_grad_batches": accumulate, "gradient_clip_val": 0.2}
    fit(by_hand, **trainer)
    fit(plain, IStarCallback(IStarLoss(DIM, **options)), **trainer)
    fit(without, **trainer)
    assert difference(plain, by_hand) == 0
    assert difference(plain, without) > 1e-3


def test_mixed_precision_equals_a_training_step_written_by_hand() -> None:
    by_hand, plain = ByHand(IStarLoss(DIM, zeta=0.0)), Plain()
    fit(by_hand, precision="bf16-mixed")
    fit(plain, IStarCallback({"dim": DIM, "zeta": 0.0}), precision="bf16-mixed")
    assert difference(plain, by_hand) == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_the_covariance_stays_in_single_precision(precision: str) -> None:
    callback = IStarCallback(IStarLoss(DIM, zeta=0.3, shrinkage_cov=ShrinkageCovariance(DIM)))
    fit(Plain(), callback, precision=precision)
    assert callback.penalty.shrinkage.cov.dtype == torch.float32


PENALTIES = [IStarLoss(DIM, zeta=0.0, lam=2.0, log_layers=True), CosineRegularizer(2.0)]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_dict_of_training_step_is_as_its_loss(penalty: Any) -> None:
    as_tensor, as_dict = Plain().double(), Plain().double()
    as_dict.answer = lambda loss: {"loss": loss, "more": 1}
    seen: list[Any] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            seen.append(outputs)

    fit(as_tensor, IStarCallback(penalty))
    fit(as_dict, IStarCallback(penalty), Watch())
    assert difference(as_tensor, as_dict) == 0
    assert all(output["more"] == 1 for output in seen)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_step_that_is_left_out_has_no_penalty(penalty: Any) -> None:
    skipping, nothing = Plain().double(), Plain().double()
    skipping.answer = lambda loss: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning tells that steps are left out
        fit(skipping, IStarCallback(penalty))
    assert difference(skipping, nothing) == 0


@pytest.mark.parametrize("penalty", PENALTIES)
def test_another_answer_of_training_step_is_an_error(penalty: Any) -> None:
    wrong = Plain().double()
    wrong.answer = lambda loss: {"task": loss}
    with pytest.raises(iso.InvalidTypeError, match="the key 'loss'"):
        fit(wrong, IStarCallback(penalty))
    assert "training_step" not in vars(wrong)  # after an exception, too


def test_schedule_is_asked_for_the_optimizer_step() -> None:
    lams: list[float] = []
    penalty = IStarLoss(DIM, zeta=0.0)

    def schedule(step: int) -> float:
        lams.append(0.1 * step)
        return lams[-1]

    fit(Plain().double(), IStarCallback(penalty, schedule=schedule), max_epochs=1, accumulate_grad_batches=2)
    assert lams == pytest.approx([0.0, 0.0, 0.1, 0.1, 0.2, 0.2])


def test_two_callbacks_log_under_their_own_names() -> None:
    first = IStarCallback(IStarLoss(DIM, zeta=0.0), states="layers.0")
    last = IStarCallback(IStarLoss(DIM, lam=0.1, zeta=0.0), states=["layers.1"], prefix="last/")
    trainer = fit(Plain().double(), first, last, max_epochs=1)
    assert {"train/isoscore_star", "last/isoscore_star"} <= set(trainer.callback_metrics)
