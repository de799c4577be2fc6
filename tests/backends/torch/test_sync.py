"""Whether losses compute with all ranks together, and which part of shared data a rank takes."""

from __future__ import annotations

from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch import (  # noqa: E402
    CosineRegularizer,
    IStarLoss,
    RankPart,
    ShrinkageCovariance,
    is_distributed,
)

POINTS = torch.eye(6)


@pytest.mark.parametrize(
    "use",
    [
        lambda: IStarLoss(6, zeta=0.0, sync=True)(POINTS),
        lambda: CosineRegularizer(sync=True)(POINTS),
        lambda: ShrinkageCovariance(6, "running", sync=True).update([POINTS], [None]),
        lambda: is_distributed(True),
    ],
)
def test_sync_without_a_distributed_run_is_one_error(use: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match=r"not initialised.*torchrun.*init_process_group") as raised:
        use()
    assert raised.value.argument == "sync"


@pytest.mark.parametrize(("sync", "expected"), [("auto", False), (True, True), (False, False)])
def test_a_run_of_one_rank_is_only_asked_for(sync: Any, expected: bool) -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert is_distributed(sync) is expected
    finally:
        torch.distributed.destroy_process_group()


def test_the_parts_of_all_ranks_are_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [*range(7)]
    assert list(RankPart(data)) == data
    dist = torch.distributed
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        parts.append(list(RankPart(data)))
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    assert list(RankPart(data, sync=False)) == data
