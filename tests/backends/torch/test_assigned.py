"""What is given to torch's losses late, or as something else, is refused in the library's own words."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch import CosineRegularizer, IStarLoss  # noqa: E402


@pytest.mark.parametrize("loss", [IStarLoss, CosineRegularizer])
@pytest.mark.parametrize("layers", [3, slice(0, 1), "12"])
def test_layers_are_a_list(loss: type, layers: object) -> None:
    with pytest.raises(iso.InvalidTypeError, match="layers: expected a list of integers"):
        loss(8, layers=layers)


def test_states_are_tensors() -> None:
    with pytest.raises(iso.InvalidTypeError, match=r"hidden_states: expected tensors of torch.*ndarray"):
        IStarLoss(8, zeta=0.0)(np.ones((4, 8)))


@pytest.mark.parametrize("lam", ["x", None, float("nan")])
def test_an_assigned_weight_is_checked(lam: object) -> None:
    penalty = IStarLoss(8, zeta=0.0)
    penalty.lam = lam
    with pytest.raises(iso.IsoScoreError, match="lam: expected a finite number"):
        penalty(torch.randn(9, 8))


@pytest.mark.parametrize("step", [-50, "a", 1.5])
def test_a_schedule_takes_steps(step: object) -> None:
    with pytest.raises(iso.IsoScoreError, match="step: expected"):
        iso.LambdaSchedule(-1.0, total_steps=100, warmup_steps=10)(step)
