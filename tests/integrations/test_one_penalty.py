"""The same penalty, given to each integration, is the same there; and so is its saved state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("lightning.pytorch")
from support_huggingface import DIM, arguments, bert, made  # noqa: E402
from support_sentence_transformers import folder, model, ranking  # noqa: E402

from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations import lightning, sentence_transformers  # noqa: E402
from isoscore_star.integrations.huggingface import IStarTrainer  # noqa: E402

__all__ = ["folder", "model"]  # fixtures

PENALTIES: dict[str, tuple[Callable[[], Any], Any]] = {
    "dict": (lambda: {"dim": DIM, "skip_embeddings": False}, ("running", None, False, "auto")),  # of the anchored loss
    "dict with zeta": (lambda: {"dim": DIM, "zeta": 0.2, "skip_embeddings": False}, ("epoch", None, False, "auto")),
    "dict of means": (lambda: {"dim": DIM, "reduction": "mean", "skip_embeddings": False}, None),  # one for each layer
    "dict of means with zeta": (
        lambda: {"dim": DIM, "reduction": "mean", "zeta": 0.2, "skip_embeddings": False},
        ("epoch", None, False, "auto"),
    ),
    "dict of layers": (
        lambda: {"dim": DIM, "layers": [-1], "sync": False, "skip_embeddings": False, "estimator": "shrinkage"},
        ("epoch", (-1,), False, False),
    ),
    "IStarLoss": (lambda: IStarLoss(DIM), ("epoch", None, False, "auto")),
    "IStarLoss of layers": (lambda: IStarLoss(DIM, layers=[1], sync=False), ("epoch", (1,), False, False)),
    "with a matrix": (lambda: IStarLoss(DIM, shrinkage_cov=torch.eye(DIM)), None),
    "with a covariance": (
        lambda: IStarLoss(DIM, shrinkage_cov=ShrinkageCovariance(DIM, "running")),
        ("running", None, False, "auto"),
    ),
    "zeta=0": (lambda: IStarLoss(DIM, zeta=0.0), None),
    "unbiased": (lambda: {"dim": DIM, "estimator": "unbiased", "skip_embeddings": False}, None),
    "CosineRegularizer": (CosineRegularizer, None),
}
"""Penalties, and the policy, layers, skip_embeddings and sync of the `ShrinkageCovariance` that they end up with."""


@pytest.fixture(params=["huggingface", "lightning", "sentence_transformers"])
def give(request: pytest.FixtureRequest, tmp_path: Path, model: Any) -> Callable[[Any], Any]:
    """Return a function that gives a penalty to an integration and returns what it makes of it."""
    if request.param == "huggingface":
        return lambda given: IStarTrainer(model=made(bert), args=arguments(tmp_path), istar=given).istar
    if request.param == "lightning":
        return lambda given: lightning.IStarCallback(given).penalty
    return lambda given: sentence_transformers.IStarLoss(model, ranking(model), penalty=given).penalty


@pytest.mark.parametrize("case", PENALTIES)
def test_it_gets_the_same_covariance_everywhere(give: Any, case: str) -> None:
    given, expected = PENALTIES[case][0](), PENALTIES[case][1]
    penalty = give(given)
    assert penalty is given or isinstance(given, dict)
    made_for = getattr(penalty, "shrinkage", None)
    names = ("policy", "layers", "skip_embeddings", "sync")
    assert expected == (None if made_for is None else tuple(getattr(made_for, name) for name in names))


@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        (1.0, iso.InvalidTypeError, "expected an IStarLoss, a CosineRegularizer, or a dict"),
        (torch.nn.Linear(2, 2), iso.InvalidTypeError, "expected an IStarLoss, a CosineRegularizer, or a dict"),
        ({"dim": DIM, "reduction": "none"}, iso.InvalidValueError, 'take "union" or "mean"'),
        ({"dim": DIM, "lam": "1"}, iso.InvalidTypeError, "number"),
    ],
)
def test_it_is_refused_with_the_same_words_everywhere(give: Any, given: Any, error: Any, reason: str) -> None:
    with pytest.raises(error) as raised:
        give(given)
    assert reason in raised.value.reason


def test_a_width_that_is_known_nowhere_has_to_be_given() -> None:
    with pytest.raises(iso.InvalidValueError, match='"dim"'):
        lightning.IStarCallback(None)


def test_none_stands_for_the_default_penalty(model: Any, tmp_path: Path) -> None:
    plain = IStarTrainer(model=made(bert), args=arguments(tmp_path)).istar
    wrapped = sentence_transformers.IStarLoss(model, ranking(model)).penalty
    for penalty in (plain, wrapped):
        assert (penalty.lam, penalty.zeta, penalty.skip_embeddings) == (1.0, 0.2, True)
    assert (plain.estimator, wrapped.estimator) == ("anchored", "shrinkage")


def test_data_for_a_covariance_mean_the_papers(tmp_path: Path) -> None:
    class OtherData(IStarTrainer):
        def get_shrinkage_dataloader(self) -> Any:
            """Return other data than the training's."""
            return self.get_eval_dataloader()

    assert OtherData(model=made(bert), args=arguments(tmp_path)).istar.estimator == "shrinkage"
    assert lightning.IStarCallback({"dim": DIM}, data=[]).penalty.estimator == "shrinkage"
    assert lightning.IStarCallback({"dim": DIM}).penalty.estimator == "anchored"
