"""Scores of `StreamingMoments`: as of all points at once, without an error or a look at any value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation._truth import unbiased

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from isoscore_star.backends.torch import StreamingMoments  # noqa: E402

DIM = 6
POINTS = np.random.default_rng(3).normal(size=(50, DIM)) * np.linspace(0.2, 3, DIM) + 10


def streamed(points: Any = POINTS, size: int = 17, **arguments: Any) -> StreamingMoments:
    moments = StreamingMoments(DIM, fourth_order=True, **arguments)
    for part in torch.as_tensor(points).split(size):
        moments.update(part)
    return moments


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_scores_are_those_of_all_points(kind: str) -> None:
    moments, cov = streamed(), random_cov(np.random.default_rng(0), DIM)
    given = torch.tensor(cov) if kind == "torch" else cov
    shrunk = moments.isoscore_star(given, 0.3)
    assert shrunk.shape == ()
    assert float(shrunk) == pytest.approx(reference.isoscore_star(POINTS, cov, 0.3), abs=1e-12)
    assert float(moments.isoscore()) == pytest.approx(reference.isoscore_star(POINTS), abs=1e-12)


def test_the_unbiased_score_is_that_of_its_definition() -> None:
    few = POINTS[:12]  # of which there are 11,880 ordered quadruples
    # Coordinates around 10 are known to some 1e-15, of which the fourth power of the spread makes more.
    assert float(streamed(few, 5).isoscore_unbiased()) == pytest.approx(unbiased(few).value, abs=1e-11)


def test_scores_where_there_are_none() -> None:
    points = torch.eye(DIM, dtype=torch.float64)
    for rows in (points[:0], points[:1], points[:1].expand(5, DIM)):
        moments = streamed(rows)
        assert float(moments.isoscore()) == float(moments.isoscore_unbiased()) == 0
    orthogonal = streamed(torch.cat([points[:3], points[:1] * 0]))
    assert torch.isnan(orthogonal.isoscore_unbiased())
    not_finite = streamed(points * torch.inf)
    assert torch.isnan(not_finite.isoscore())
    assert torch.isnan(not_finite.isoscore_unbiased())


class _NoWaiting(TorchDispatchMode):
    """Refuse what only the host can do with a value, which it has to wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device() -> None:
    points = torch.tensor(POINTS).to("meta")
    cov = torch.eye(DIM, device="meta")
    with _NoWaiting():
        moments = streamed(points, device="meta")
        moments.merge(streamed(points, device="meta"))
        scores = (moments.isoscore(), moments.isoscore_star(cov, 0.3), moments.isoscore_unbiased())
    assert all(score.shape == () and score.device.type == "meta" for score in scores)


def test_errors() -> None:
    moments = StreamingMoments(DIM).update(torch.tensor(POINTS))
    with pytest.raises(iso.InvalidValueError, match="fourth_order"):
        moments.isoscore_unbiased()
    with pytest.raises(iso.InvalidValueError, match="none was given"):
        moments.isoscore_star(zeta=0.3)
    with pytest.raises(iso.InvalidValueError, match=r"expected shape \(6, 6\)"):
        moments.isoscore_star(torch.eye(5), 0.3)
    with pytest.raises(iso.InvalidValueError, match="zeta"):
        moments.isoscore_star(torch.eye(DIM), 1.5)
