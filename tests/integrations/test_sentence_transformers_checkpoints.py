"""`IStarCallback`: what several penalties write and log, from where a run goes on; models in PEFT's manner."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")

from safetensors.torch import load_file  # noqa: E402
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer  # noqa: E402
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer  # noqa: E402
from sentence_transformers.sentence_transformer.training_args import (  # noqa: E402
    SentenceTransformerTrainingArguments,
)
from test_sentence_transformers import (  # noqa: E402
    ANCHORS,
    POSITIVES,
    close,
    features,
    folder,
    gradients,
    model,
    total,
    union_of_states,
)
from torch import nn  # noqa: E402

from isoscore_star.integrations.sentence_transformers import IStarCallback, IStarLoss  # noqa: E402

__all__ = ["folder", "model"]  # fixtures

Losses = Callable[[Any], Any]


@pytest.fixture
def trainer_of(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make a trainer of a new model, which saves after every second step."""

    def make(loss_of: Losses, name: str = "out", seed: int = 3, **more: Any) -> Any:
        torch.manual_seed(seed)
        made = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(16, "mean")], device="cpu").double()
        loss = loss_of(made)
        pairs = datasets.Dataset.from_dict({"anchor": ANCHORS, "positive": POSITIVES})
        apart = {
            "nli/all": datasets.Dataset.from_dict({"anchor": ANCHORS[:3], "positive": POSITIVES[:3]}),
            "qa": datasets.Dataset.from_dict({"anchor": ANCHORS[3:], "positive": POSITIVES[3:]}),
        }
        settings: dict[str, Any] = {
            "per_device_train_batch_size": 3, "num_train_epochs": 2, "learning_rate": 0.05, "logging_steps": 1,
            "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0.0, "save_strategy": "steps",
            "save_steps": 2, "report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3,
            "dataloader_pin_memory": False, **more,
        }  # fmt: skip
        several = loss if isinstance(loss, dict) else {"": loss}
        return SentenceTransformerTrainer(
            made,
            SentenceTransformerTrainingArguments(str(tmp_path / name), **settings),
            train_dataset=datasets.DatasetDict(apart) if isinstance(loss, dict) else pairs,
            loss=loss,
            callbacks=[IStarCallback(one) for one in several.values() if isinstance(one, IStarLoss)],
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield make


def ranking(of: Any) -> nn.Module:
    base: nn.Module = losses.MultipleNegativesRankingLoss(of)
    return base


def one_loss(of: Any) -> Any:
    return IStarLoss(of, ranking(of), lam=0.5, zeta=0.4)


def two_losses(of: Any) -> Any:
    """Of two estimators, so that neither's state fits the other."""
    return {
        "nli/all": IStarLoss(of, ranking(of), lam=0.5, zeta=0.4),
        "qa": IStarLoss(of, ranking(of), lam=0.2, estimator="unbiased"),
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
                assert log[f"{name}_istar_loss"] == pytest.approx(lam * (1 - log[f"{name}_isoscore_star"]), rel=1e-9)
                assert log["istar_loss"] == pytest.approx(log[f"{name}_istar_loss"], abs=1e-4)  # 4 digits


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


# Models in PEFT's manner


class Adapted(nn.Module):
    """Asks its transformer for hidden states only if it is asked itself, whatever the configuration says."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_model = base
        self.config = base.config

    def forward(self, input_ids: Any, attention_mask: Any = None, output_hidden_states: Any = None, **more: Any) -> Any:
        return self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states, **more
        )


class Silent(Adapted):
    def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> Any:
        return super().forward(input_ids, attention_mask)


def test_states_of_a_wrapped_transformer(model: Any) -> None:
    plain = IStarLoss(model, ranking(model), lam=0.7, zeta=0.3)
    plain.refresh(ANCHORS)
    expected = gradients(model, total(plain(features(model, ANCHORS, POSITIVES))))
    states = union_of_states(model, ANCHORS).detach()
    model[0].model = Adapted(model[0].model)
    wrapped = IStarLoss(model, ranking(model), lam=0.7, zeta=0.3)
    wrapped.refresh(ANCHORS)
    assert torch.allclose(wrapped.penalty.shrinkage.cov, torch.cov(states.T), rtol=1e-10, atol=1e-12)
    batch = features(model, ANCHORS, POSITIVES)
    close(gradients(model, total(wrapped(batch))), expected)
    assert not any("output_hidden_states" in part for part in batch)


def test_a_transformer_that_gives_no_states_is_named(model: Any) -> None:
    model[0].model = Silent(model[0].model)
    message = "model: it returned no states of its layers"
    with pytest.raises(iso.InvalidValueError, match=message):
        IStarLoss(model, ranking(model), estimator="unbiased")(features(model, ANCHORS, POSITIVES))
    with pytest.raises(iso.InvalidValueError, match=message):
        IStarLoss(model, ranking(model)).refresh(ANCHORS)


class Prefixed(Adapted):
    """Puts two trained vectors in front, as prompt tuning does, and gives the words' last states."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.peft_config = {"default": SimpleNamespace(num_virtual_tokens=2)}
        self.prompt = nn.Parameter(torch.randn(2, 16, dtype=torch.float64))

    def forward(self, input_ids: Any, attention_mask: Any = None, output_hidden_states: Any = None, **_: Any) -> Any:
        vectors = self.base_model.embeddings.word_embeddings(input_ids)
        vectors = torch.cat([self.prompt.expand(len(vectors), -1, -1), vectors], 1)
        mask = torch.cat([attention_mask.new_ones(len(vectors), 2), attention_mask], 1)
        found = self.base_model(
            inputs_embeds=vectors, attention_mask=mask, output_hidden_states=output_hidden_states, return_dict=True
        )
        found["last_hidden_state"] = found["last_hidden_state"][:, 2:]
        return found


def ones(inputs: Any, outputs: Any) -> Any:
    return torch.ones(outputs["all_layer_embeddings"][0].shape[:-1])


@pytest.mark.parametrize("mask", [None, False, ones])
def test_masks_of_states_of_another_length(model: Any, mask: Any) -> None:
    model[0].model = Prefixed(model[0].model)
    loss = IStarLoss(model, losses.BatchAllTripletLoss(model), estimator="unbiased", mask=mask)
    batch = features(model, ANCHORS)
    inputs = {name: batch[0][name] for name in ("input_ids", "attention_mask")}
    states = model[0].model(**inputs, output_hidden_states=True).hidden_states[1:]
    kept = inputs["attention_mask"].bool()
    points = [state[:, 2:][kept] if mask is None else state.flatten(0, 1) for state in states]
    expected = iso.istar_loss(torch.cat(points), estimator="unbiased").item()
    penalty = loss(batch, torch.tensor([0, 0, 1, 1, 2, 2]))["istar_loss"]
    assert penalty.item() == pytest.approx(expected, rel=1e-12)


def test_with_lam_zero_training_is_that_of_the_loss_alone(model: Any, caplog: Any) -> None:
    expected = gradients(model, ranking(model)(features(model, ANCHORS, POSITIVES), None))

    def wrong(inputs: Any, outputs: Any) -> Any:
        return torch.ones(1, 2)

    for mask in (None, wrong):
        loss = IStarLoss(model, ranking(model), lam=0.0, zeta=0.0, mask=mask)
        with caplog.at_level(logging.WARNING, "isoscore_star"):
            result = loss(features(model, ANCHORS, POSITIVES))
        found = gradients(model, total(result))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert set(result) == {"task_loss", "istar_loss"}
        assert ("isoscore_star" in loss.penalty.collect()) == (mask is None)
    assert len(caplog.records) == 1
    assert "lam is 0" in caplog.text
    with pytest.raises(iso.InvalidValueError, match="mask: expected shape"):
        IStarLoss(model, ranking(model), zeta=0.0, mask=wrong)(features(model, ANCHORS, POSITIVES))
