"""What `IStarCallback` says of mistakes."""

from __future__ import annotations

from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, Plain, examples, fit  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402


@pytest.mark.parametrize(
    ("penalty", "error", "message"),
    [
        (3.0, iso.InvalidTypeError, "penalty: expected an IStarLoss"),
        (IStarLoss(DIM, zeta=0.0, reduction="none"), iso.InvalidValueError, 'reduction="none"'),
        (IStarLoss(DIM, zeta=0.0, skip_embeddings=True), iso.InvalidValueError, "hooks on layers give no embedding"),
        ({"dim": DIM, "skip_embeddings": True}, iso.InvalidValueError, "hooks on layers give no embedding layer"),
        ({"zeta": 0.0}, iso.InvalidValueError, r'penalty: the width of the states.*penalty=\{"dim": \.\.\.'),
    ],
)
def test_penalties_that_do_not_fit(penalty: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        IStarCallback(penalty)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"states": "encoder.layers.*"}, r"Close names: 'layers\.0'"),
        ({"mask": "mask"}, r"the batch has no 'mask'.*'attention_mask'"),
    ],
)
def test_names_that_are_not_there(given: Any, message: str) -> None:
    with pytest.raises(iso.InvalidValueError, match=message):
        fit(Plain().double(), IStarCallback(IStarLoss(DIM, zeta=0.0), **given))


def test_manual_optimization() -> None:
    class Manual(Plain):
        automatic_optimization = False

    with pytest.raises(iso.InvalidValueError, match="manual optimization"):
        fit(Manual().double(), IStarCallback(IStarLoss(DIM, zeta=0.0)))


def test_training_data_that_cannot_be_read_twice() -> None:
    with pytest.raises(iso.InvalidValueError, match="persistent_workers"):
        fit(Plain(), IStarCallback({"dim": DIM, "zeta": 0.2}), loaders=[DataLoader(examples(torch.float32), 4)])
