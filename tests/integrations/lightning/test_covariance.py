"""From what `IStarCallback` reads Σ_S."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, Plain, examples, fit  # noqa: E402
from torch.utils.data import DataLoader, default_collate  # noqa: E402

from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402


def test_shrinkage_is_read_at_every_epoch() -> None:
    seen: list[torch.Tensor] = []

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            points = []
            pl_module.eval()
            with torch.no_grad():
                for row in examples():
                    points += [s[row["attention_mask"].bool()] for s in pl_module.states(row["ids"])]
            pl_module.train()
            seen.append(torch.cov(torch.cat(points).T))

    shrinkage = ShrinkageCovariance(DIM)
    callback, covs = IStarCallback(IStarLoss(DIM, zeta=0.5, shrinkage_cov=shrinkage)), []
    read = shrinkage.fit
    shrinkage.fit = lambda *args, **kwargs: covs.append(read(*args, **kwargs).cov)  # type: ignore[method-assign]
    fit(Plain().double(), callback, Watch(), max_epochs=3)
    assert len(covs) == 3
    for got, want in zip(covs, seen, strict=True):
        assert torch.allclose(got, want, rtol=1e-10, atol=1e-14)
    assert not torch.equal(covs[0], covs[2])


def test_shrinkage_from_data_of_its_own() -> None:
    loader = DataLoader(examples()[:7], 3)
    given = IStarCallback({"dim": DIM}, data=loader, states="layers.*", mask="attention_mask")
    made = IStarCallback(
        {"dim": DIM},
        data=lambda trainer: [(batch["ids"], batch["attention_mask"]) for batch in loader],
        forward=lambda module, batch: module(*batch) if isinstance(batch, (tuple, list)) else module(**batch),
        mask=lambda batch, outputs: batch[1] if isinstance(batch, (tuple, list)) else batch["attention_mask"],
    )
    for callback in (given, made):
        fit(Plain().double(), callback, max_epochs=1)
        assert callback.penalty.shrinkage.count == 2 * int(sum(row["attention_mask"].sum() for row in examples()[:7]))
    assert torch.equal(given.penalty.shrinkage.cov, made.penalty.shrinkage.cov)


def test_reading_it_leaves_every_generator_alone() -> None:
    """A loader may draw, as augmentation does; with λ = 0 a fit goes on as one without the callback."""

    def collate(rows: list[Any]) -> Any:
        random.random()
        np.random.random()  # noqa: NPY002
        torch.rand(())
        return default_collate(rows)

    states = []
    for callbacks in ([], [IStarCallback({"dim": DIM, "lam": 0.0})]):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        fit(Plain().double(), *callbacks, loaders=DataLoader(examples(), 4, collate_fn=collate))
        states.append((random.getstate(), np.random.get_state()[1].tolist()))  # noqa: NPY002
    assert states[0] == states[1]
