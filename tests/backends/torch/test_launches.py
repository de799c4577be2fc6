"""Operations of a training step on a device, each of which has a launch cost: hardly more for more layers.

On the meta device values are as unknown as those on a GPU are without waiting. `benchmarks/launches.py` counts them.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from isoscore_star.backends.torch import IStarLoss  # noqa: E402
from isoscore_star.backends.torch.modules import anchor  # noqa: E402

DIM = 32
PENALTIES: dict[str, dict[str, Any]] = {
    "the paper's": {"shrinkage_cov": torch.eye(DIM)},
    "two halves": {"estimator": "unbiased"},
    "anchored": {"shrinkage_cov": torch.eye(DIM), "estimator": "anchored"},
    "anchored, running": {"estimator": "anchored"},
}
EACH = {"the paper's": 0, "two halves": 3, "anchored": 3, "anchored, running": 1}
"""Operations for each layer: two halves are copied and their gradients put together; the sample of a layer is taken,
for Σ_S or for the log, which splits it into halves."""


class Counted(TorchDispatchMode):
    """Count what is computed; views are not."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func.name() == "aten::_unsafe_view" or "empty" in func.name())
        return func(*args, **(kwargs or {}))


def launches(layers: int, masked: bool, arguments: dict[str, Any]) -> int:
    penalty = IStarLoss(DIM, **arguments).to("meta")
    states = [torch.empty(8, 5, DIM, device="meta", requires_grad=True) for _ in range(layers)]
    mask = torch.ones(8, 5, device="meta") if masked else None
    torch.autograd.grad(penalty(states, mask), states)  # the first step begins an average
    with Counted() as counted:
        torch.autograd.grad(penalty(states, mask), states)
    return counted.count


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", PENALTIES)
def test_more_layers_cost_no_more_launches(name: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor.TrustTest, "_remember", lambda self, near: None)  # no event can be recorded there
    few, many = (launches(layers, masked, PENALTIES[name]) for layers in (2, 12))
    assert many - few <= 10 * EACH[name]
