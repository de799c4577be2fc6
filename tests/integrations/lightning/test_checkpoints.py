"""Fits that go on from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from support_lightning import DIM, ROWS, Plain, difference, examples  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402


@pytest.mark.parametrize("policy", ["epoch", "running"])
@pytest.mark.parametrize("stopped", ["after an epoch", "inside an epoch"])
def test_a_fit_that_was_stopped_equals_one_that_was_not(policy: str, stopped: str, tmp_path: Path) -> None:
    def parts() -> tuple[Any, IStarCallback]:
        shrinkage = ShrinkageCovariance(DIM, policy, decay=0.6)
        return Plain().double(), IStarCallback(IStarLoss(DIM, lam=-1.0, zeta=0.5, shrinkage_cov=shrinkage))

    # A batch of all rows, so that every batch is the same: a plain DataLoader begins anew inside an epoch, too.
    class Same(DataLoader):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            batch = next(super().__iter__())
            return iter([batch] * 4)

        def __len__(self) -> int:
            return 4

    def run(epochs: int, ckpt_path: Any = None, *more: Any) -> tuple[Any, IStarCallback]:
        model, callback = parts()
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[callback, *more],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, Same(examples(), ROWS), ckpt_path=ckpt_path)
        return model, callback

    every = {"every_n_epochs": 1} if stopped == "after an epoch" else {"every_n_train_steps": 6}
    saver = pl.callbacks.ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, **every)
    whole, whole_callback = run(3, None, saver)
    step = 8 if stopped == "after an epoch" else 6
    resumed, resumed_callback = run(3, tmp_path / "saved" / f"step={step}.ckpt")
    assert difference(whole, resumed) == 0
    one, other = whole_callback.penalty.state_dict(), resumed_callback.penalty.state_dict()
    assert one.keys() == other.keys()
    assert {"shrinkage.cov", "log.start"} <= set(one)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_state_that_was_saved_before_is_loaded() -> None:
    """Names and layout are those of version 0.1; by its key Lightning knows whose state it is."""
    state = {"shrinkage.cov": torch.diag(torch.arange(1.0, DIM + 1)), "log.start": torch.tensor(0.25)}
    callback = IStarCallback({"dim": DIM, "zeta": 0.2})
    callback.load_state_dict({"penalty": state})
    assert callback.state_key == "IStarCallback{'prefix': 'train/'}"
    assert torch.equal(callback.penalty.shrinkage.cov, state["shrinkage.cov"])
    assert float(callback.penalty.log.start) == 0.25


def test_the_state_of_another_penalty_is_an_error() -> None:
    shrinkage = ShrinkageCovariance(DIM, shrinkage_cov=torch.eye(DIM))
    state = IStarCallback(IStarLoss(DIM, shrinkage_cov=shrinkage)).state_dict()
    with pytest.raises(iso.InvalidValueError, match="saved by another penalty"):
        IStarCallback({"dim": DIM, "estimator": "unbiased"}).load_state_dict(state)
