"""What `IStarCallback` writes and logs of one penalty and of several, and from where a run goes on."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")
from safetensors.torch import load_file  # noqa: E402
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from support_sentence_transformers import ranking, total  # noqa: E402
from torch import nn  # noqa: E402

from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IStarCallback,
    IStarLoss,
)


@pytest.mark.parametrize("policy", ["epoch", "running"])
@pytest.mark.parametrize("stop", [2, 3])
def test_a_run_that_goes_on_equals_one_that_never_stopped(trained: Any, policy: str, stop: int) -> None:
    """Two batches an epoch, so step 2 is between epochs and step 3 inside one."""

    def loss_of(model: Any) -> Any:
        base = losses.MultipleNegativesRankingLoss(model)
        cov = ShrinkageCovariance(16, policy, skip_embeddings=True, decay=0.8)
        return IStarLoss(model, base, lam=0.5, zeta=0.4, shrinkage_cov=cov)

    given: dict[str, Any] = {
        "callbacks": lambda loss: [IStarCallback(loss)],
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": stop,
    }
    whole = trained(loss_of, name="whole", **given)
    whole.train()
    checkpoint = Path(whole.args.output_dir) / f"checkpoint-{stop}"
    going_on = trained(loss_of, name="whole", **given)
    going_on.train(resume_from_checkpoint=str(checkpoint))
    for ours, expected in zip(going_on.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, expected)
    assert torch.equal(going_on.loss.penalty.shrinkage.cov, whole.loss.penalty.shrinkage.cov)


def one_loss(of: Any) -> Any:
    return IStarLoss(of, ranking(of), lam=0.5, zeta=0.4)


def two_losses(of: Any) -> Any:
    """Of two estimators, so that neither's state fits the other."""
    return {
        "nli/all": IStarLoss(of, ranking(of), lam=0.5, zeta=0.4),
        "qa": IStarLoss(of, ranking(of), lam=0.2, zeta=0.0),
    }


def penalties(trainer: Any) -> dict[str, Any]:
    several = trainer.loss if isinstance(trainer.loss, dict) else {"": trainer.loss}
    return {name: loss.penalty for name, loss in several.items()}


def assert_same(one: Any, other: Any) -> None:
    for ours, expected in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, expected)
    for name, penalty in penalties(one).items():
        ours, expected = penalty.state_dict(), penalties(other)[name].state_dict()
        assert ours.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in ours.items()), name


def test_each_penalty_has_its_own_file_and_takes_it_up_again(trainer_of: Any) -> None:
    whole = trainer_of(two_losses)
    whole.train()
    checkpoint = Path(whole.args.output_dir) / "checkpoint-2"
    names = {path.name for path in checkpoint.glob("isoscore_star*")}
    assert names == {"isoscore_star-nli%2Fall.safetensors", "isoscore_star-qa.safetensors"}
    assert "shrinkage.cov" in load_file(checkpoint / "isoscore_star-nli%2Fall.safetensors")
    assert "shrinkage.cov" not in load_file(checkpoint / "isoscore_star-qa.safetensors")
    going_on = trainer_of(two_losses, seed=4)
    going_on.train(resume_from_checkpoint=str(checkpoint))
    assert_same(going_on, whole)


def test_the_log_has_every_penalty(trainer_of: Any) -> None:
    trainer = trainer_of(two_losses, num_train_epochs=1, save_strategy="no")
    trainer.train()
    steps = [log for log in trainer.state.log_history if "loss" in log]
    logged = [name for log in steps for name in log if "isoscore_star" in name]
    assert sorted(logged) == ["nli/all_isoscore_star", "qa_isoscore_star"]  # one batch of each
    for log in steps:
        for name, lam in (("nli/all", 0.5), ("qa", 0.2)):
            if f"{name}_isoscore_star" in log:
                assert log[f"{name}_istar_penalty"] == pytest.approx(lam * (1 - log[f"{name}_isoscore_star"]), rel=1e-9)
                assert log["istar_penalty"] == pytest.approx(log[f"{name}_istar_penalty"], abs=1e-4)  # 4 digits


class Both(nn.Module):
    """A loss of two penalties, on different layers."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.first = IStarLoss(of, ranking(of), lam=0.5, zeta=0.4, layers=[1])
        self.second = IStarLoss(of, ranking(of), lam=0.2, zeta=0.3, layers=[2])
        self.model = of

    def forward(self, sentence_features: Any, labels: Any) -> Any:
        first = self.first([dict(part) for part in sentence_features], labels)
        return {**first, "second": total(self.second(sentence_features, labels))}


def test_penalties_without_datasets_are_counted(trainer_of: Any) -> None:
    def make(seed: int) -> Any:
        trainer = trainer_of(Both, seed=seed)
        for loss in (trainer.loss.first, trainer.loss.second):
            trainer.add_callback(IStarCallback(loss))
        return trainer

    whole, going_on = make(3), make(4)
    whole.train()
    checkpoint = Path(whole.args.output_dir) / "checkpoint-2"
    covs = [load_file(checkpoint / f"isoscore_star-{i}.safetensors")["shrinkage.cov"] for i in (0, 1)]
    assert not torch.equal(*covs)
    assert {"0_isoscore_star", "1_isoscore_star"} <= set(whole.state.log_history[0])
    going_on.train(resume_from_checkpoint=str(checkpoint))
    for name in ("first", "second"):
        ours, expected = (getattr(trainer.loss, name).penalty.shrinkage.cov for trainer in (going_on, whole))
        assert torch.equal(ours, expected)


def test_a_single_file_of_several_penalties_is_that_of_the_last(trainer_of: Any, caplog: Any) -> None:
    """As all of them wrote it, each over what the one before had written."""
    trainer = trainer_of(two_losses)
    trainer.train()
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-2"
    (checkpoint / "isoscore_star-nli%2Fall.safetensors").unlink()
    (checkpoint / "isoscore_star-qa.safetensors").rename(checkpoint / "isoscore_star.safetensors")
    start = load_file(checkpoint / "isoscore_star.safetensors")["log.start"]
    going_on = trainer_of(two_losses, seed=4)
    with caplog.at_level(logging.WARNING, "isoscore_star"):
        going_on.train(resume_from_checkpoint=str(checkpoint))
    assert torch.equal(penalties(going_on)["qa"].log.start, start)
    assert [record.message for record in caplog.records if "nli%2Fall" in record.message]


def test_a_run_goes_on_from_a_checkpoint_elsewhere(trainer_of: Any, tmp_path: Path) -> None:
    """Step 3 is inside an epoch, so that Σ_S is not read again but comes from the checkpoint."""
    whole = trainer_of(one_loss, save_steps=3)
    whole.train()
    moved = tmp_path / "kept" / "the best one"
    shutil.move(Path(whole.args.output_dir) / "checkpoint-3", moved)
    going_on = trainer_of(one_loss, name="elsewhere", seed=4, save_steps=3)
    going_on.train(resume_from_checkpoint=str(moved))
    assert_same(going_on, whole)


def test_resume_from_the_last_checkpoint(trainer_of: Any) -> None:
    whole = trainer_of(one_loss, save_steps=3)
    whole.train()
    going_on = trainer_of(one_loss, seed=4, save_steps=3)
    shutil.rmtree(Path(whole.args.output_dir) / "checkpoint-4", ignore_errors=True)
    going_on.train(resume_from_checkpoint=True)
    assert_same(going_on, whole)


def test_a_checkpoint_without_a_state_and_one_of_another_penalty_are_told(trainer_of: Any, caplog: Any) -> None:
    trainer = trainer_of(one_loss)
    trainer.train()
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-2"
    other = trainer_of(lambda of: IStarLoss(of, ranking(of), estimator="unbiased"))
    with pytest.raises(iso.InvalidValueError, match=r"isoscore_star\.safetensors: it was saved by another penalty"):
        other.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "isoscore_star.safetensors").unlink()
    with caplog.at_level(logging.WARNING, "isoscore_star"):
        trainer_of(one_loss).train(resume_from_checkpoint=str(checkpoint))
    assert "saved without I-STAR" in caplog.text
