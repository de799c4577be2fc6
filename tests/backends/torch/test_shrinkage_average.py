"""`ShrinkageCovariance` as an average of the training batches' own covariances, against those of stacked points."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import weighted_mean

import isoscore_star as iso

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoscore_star.backends.torch import ShrinkageCovariance  # noqa: E402


@pytest.mark.parametrize("policy", ["running", "identity"])
def test_averages_of_the_batches(policy: str) -> None:
    torch.manual_seed(0)
    shrinkage, covs = ShrinkageCovariance(6, policy, decay=0.8), []
    for i in range(5):
        layers = [torch.randn(3, 7, 6, dtype=torch.float64) * (i + 1) + 10 for _ in range(2)]
        mask = torch.arange(7) < torch.randint(2, 8, (3, 1))
        shrinkage.update(layers, [mask, None])
        cov = np.cov(torch.cat([layers[0][mask], layers[1].flatten(0, 1)]).numpy().T)
        covs.append(cov if policy == "running" else np.eye(6) * np.trace(cov) / 6)
        assert np.allclose(shrinkage.current(), weighted_mean(covs, 0.8), rtol=1e-12, atol=1e-13)
    before = shrinkage.cov
    shrinkage.update([layers[0]], [torch.arange(21).reshape(3, 7) == 4])  # a single point has no covariance
    assert torch.equal(shrinkage.cov, before)
    if policy == "identity":
        # T² and F are sums of six rounded terms each.
        assert float(iso.isoscore_from_cov(shrinkage.cov)) == pytest.approx(1, abs=32 * 2.0**-52)


def test_an_average_never_waits_for_the_device() -> None:
    shrinkage, X = ShrinkageCovariance(6, "running"), torch.empty(3, 7, 6, device="meta")
    for _ in range(2):
        shrinkage.update([X, X], [torch.empty(3, 7, device="meta"), None])  # a meta tensor has no value to wait for
    assert shrinkage.current().device.type == "meta"


def test_a_first_batch_without_a_covariance() -> None:
    shrinkage = ShrinkageCovariance(6, "running")
    shrinkage.update([torch.randn(1, 6)], [None])
    assert not shrinkage.current().any()
    X = torch.randn(20, 6)
    shrinkage.update([X], [None])
    assert np.allclose(shrinkage.cov, np.cov(X.numpy().T), atol=1e-6)


def test_the_average_starts_from_what_was_given_or_read() -> None:
    X = torch.randn(20, 6, dtype=torch.float64)
    given = torch.diag(torch.arange(1.0, 7, dtype=torch.float64))
    expected = 0.9 * given + 0.1 * torch.cov(X.T)
    for start in (
        ShrinkageCovariance(6, "running", decay=0.9, shrinkage_cov=given),
        ShrinkageCovariance(6, "running", decay=0.9),
    ):
        if start.cov is None:
            axes = torch.cat([torch.eye(6, dtype=torch.float64)] * 2)
            axes[6:] *= -1
            points = axes * (given.diagonal() * 11 / 2).sqrt()  # of covariance `given`
            start.fit(nn.Identity(), [points], forward=lambda _, batch: (batch, None))
        start.update([X], [None])
        assert torch.allclose(start.cov, expected, rtol=1e-12, atol=1e-14)
