"""I-STAR in sentence-transformers: against its own losses and trainer, on a BERT of two layers made here."""

from __future__ import annotations

import copy
import os
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("accelerate")
datasets = pytest.importorskip("datasets")

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer  # noqa: E402
from sentence_transformers.sentence_transformer import losses  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer  # noqa: E402
from sentence_transformers.sentence_transformer.training_args import (  # noqa: E402
    SentenceTransformerTrainingArguments,
)
from transformers import BertConfig, BertModel, BertTokenizerFast, TrainerCallback  # noqa: E402

from isoscore_star.backends.torch.modules.shrinkage_covariance import ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
    IsoScoreStarEvaluator,
    IStarCallback,
    IStarLoss,
)

ANCHORS = [
    "the cat sat on the mat",
    "a dog ran",
    "the big red bird flew over the old road",
    "small dog near the cat",
    "the sky",
    "a bird sat under the mat",
]
POSITIVES = [
    "a cat on a mat",
    "the dog ran far over the road",
    "bird flew",
    "a dog near a small old cat",
    "the red sky over the big road",
    "bird under mat",
]
NEGATIVES = [
    "far sky",
    "the cat flew over a bird",
    "an old mat near the road",
    "red",
    "a dog sat on the cat",
    "the road ran on",
]


WORDS = sorted({word for text in ANCHORS + POSITIVES + NEGATIVES for word in text.split()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=24,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.4,
    )
    BertModel(config).save_pretrained(path)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(path)
    return path


@pytest.fixture
def model(folder: Path) -> Any:
    transformer = Transformer(str(folder))
    made = SentenceTransformer(modules=[transformer, Pooling(16, "mean")], device="cpu")
    return made.double().train()


def features(model: Any, *columns: list[str]) -> list[dict[str, Any]]:
    return [dict(model.preprocess(column)) for column in columns]


def union_of_states(model: Any, *columns: list[str], layers: slice = slice(1, None)) -> torch.Tensor:
    """Every layer's token states without padding, by the bare transformer."""
    parts = []
    for column in columns:
        batch = model.preprocess(column)
        mask = batch["attention_mask"]
        inputs = {"input_ids": batch["input_ids"], "attention_mask": mask}
        states = model[0].auto_model(**inputs, output_hidden_states=True).hidden_states
        parts += [state[mask.bool()] for state in states[layers]]
    return torch.cat(parts)


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def total(value: Any) -> torch.Tensor:
    return torch.stack(list(value.values())).sum() if isinstance(value, dict) else value


def close(ours: list[torch.Tensor], expected: list[torch.Tensor], precision: float = 1e-12) -> None:
    scale = max(float(g.abs().max()) for g in expected)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, expected, strict=True)) < precision * scale


CASES = {
    "MultipleNegativesRankingLoss": (losses.MultipleNegativesRankingLoss, 2, None),
    "with negatives, merged in one pass": (losses.MultipleNegativesRankingLoss, 3, None),
    "TripletLoss": (losses.TripletLoss, 3, None),
    "CosineSimilarityLoss": (losses.CosineSimilarityLoss, 2, torch.linspace(0, 1, 6, dtype=torch.float64)),
    "one column": (losses.BatchAllTripletLoss, 1, torch.tensor([0, 0, 1, 1, 2, 2])),
    "MatryoshkaLoss": (
        lambda model: losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), [16, 8, 4]),
        2,
        None,
    ),
    "AdaptiveLayerLoss": (
        lambda model: losses.AdaptiveLayerLoss(model, losses.MultipleNegativesRankingLoss(model), n_layers_per_step=-1),
        2,
        None,
    ),
    "a loss of several components": (losses.GlobalOrthogonalRegularizationLoss, 2, None),
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_the_loss_and_the_penalty_of_all_that_was_embedded(model: Any, case: str) -> None:
    make, count, labels = CASES[case]
    columns = [ANCHORS, POSITIVES, NEGATIVES][:count]
    cov = torch.diag(torch.arange(1.0, 17, dtype=torch.float64))
    wrapped = IStarLoss(model, make(model), lam=0.7, zeta=0.3, shrinkage_cov=cov)
    result = wrapped(features(model, *columns), labels)
    assert result["istar_loss"].item() > 0
    ours = gradients(model, total(result))

    task = total(make(model)(features(model, *columns), labels))
    expected = gradients(model, task + iso.istar_loss(union_of_states(model, *columns), cov, 0.3, 0.7))
    close(ours, expected)
    assert not model[0].auto_model.config.output_hidden_states
    assert not model._forward_hooks


def test_chosen_layers_and_estimator(model: Any) -> None:
    for layers, part in (([-1], slice(2, None)), ([0, 2], slice(0, None, 2))):
        wrapped = IStarLoss(
            model, losses.MultipleNegativesRankingLoss(model), estimator="unbiased", layers=layers, target=0.5
        )
        penalty = wrapped(features(model, ANCHORS, POSITIVES))["istar_loss"]
        score = iso.isoscore_unbiased(union_of_states(model, ANCHORS, POSITIVES, layers=part).detach())
        ratio = (1 + 15 * score) / (1 + 15 * 0.5)
        assert penalty.item() == pytest.approx(ratio.log().square().item(), rel=1e-12)


def test_each_layer_over_all_columns(model: Any) -> None:
    wrapped = IStarLoss(model, losses.TripletLoss(model), estimator="unbiased", reduction="mean", log_layers=True)
    wrapped(features(model, ANCHORS, POSITIVES, NEGATIVES))
    columns = (ANCHORS, POSITIVES, NEGATIVES)
    first, last = (
        iso.isoscore_unbiased(union_of_states(model, *columns, layers=slice(i, i + 1)).detach()).item() for i in (1, 2)
    )
    logged = wrapped.penalty.collect()
    assert logged["isoscore_star/layer_01"] == pytest.approx(first, rel=1e-12)
    assert logged["isoscore_star/layer_02"] == pytest.approx(last, rel=1e-12)
    assert logged["isoscore_star"] == pytest.approx((first + last) / 2, rel=1e-12)


def test_evaluation_gives_the_wrapped_loss_alone(model: Any) -> None:
    base = losses.MultipleNegativesRankingLoss(model)
    wrapped = IStarLoss(model, base, estimator="unbiased")
    model.eval()
    batch = features(model, ANCHORS, POSITIVES)
    assert torch.equal(wrapped(batch), base(features(model, ANCHORS, POSITIVES), None))
    assert wrapped.penalty.collect() == {}


@pytest.mark.parametrize(
    "make",
    [
        losses.CachedMultipleNegativesRankingLoss,
        losses.MegaBatchMarginLoss,
        lambda model: losses.CachedGISTEmbedLoss(model, guide=copy.deepcopy(model)),
        lambda model: losses.MatryoshkaLoss(model, losses.CachedMultipleNegativesRankingLoss(model), [16, 8]),
    ],
)
def test_gradient_caching_is_refused(model: Any, make: Any) -> None:
    with pytest.raises(iso.InvalidValueError, match="caches gradients"):
        IStarLoss(model, make(model), estimator="unbiased")
    IStarLoss(model, losses.MegaBatchMarginLoss(model, use_mini_batched_version=False), estimator="unbiased")


class WithoutGradients(torch.nn.Module):
    """Embeds as GradCache does, and says nothing of it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sentence_features: Any, labels: Any) -> Any:
        with torch.no_grad():
            embeddings = [self.model(f)["sentence_embedding"] for f in sentence_features]
        return torch.cat(embeddings).requires_grad_().sum()


class Elsewhere(torch.nn.Module):
    def forward(self, sentence_features: Any, labels: Any) -> Any:
        return torch.zeros(())


def test_states_that_carry_no_gradient_are_refused_when_they_come(model: Any) -> None:
    batch = features(model, ANCHORS, POSITIVES)
    with pytest.raises(iso.InvalidValueError, match="caches gradients"):
        IStarLoss(model, WithoutGradients(model), estimator="unbiased")(batch)
    with pytest.raises(iso.InvalidValueError, match="did not call the model"):
        IStarLoss(model, Elsewhere(), estimator="unbiased")(batch)
    assert not model._forward_hooks


def test_errors(model: Any) -> None:
    base = losses.MultipleNegativesRankingLoss(model)
    with pytest.raises(iso.InvalidValueError, match="IStarCallback"):
        IStarLoss(model, base)(features(model, ANCHORS, POSITIVES))
    with pytest.raises(iso.InvalidValueError, match="one number"):
        IStarLoss(model, base, reduction="none")
    with pytest.raises(iso.InvalidValueError, match="no transformer"):
        IStarLoss(torch.nn.Linear(2, 2), base)
    with pytest.raises(iso.InvalidValueError, match="nothing to refresh"):
        IStarLoss(model, base, estimator="unbiased").refresh(ANCHORS)
    with pytest.raises(iso.InvalidTypeError, match="IStarLoss of this module"):
        IStarCallback(base)


class Packed(torch.nn.Module):
    """Gives a model's states without a mask, as for inputs that were packed without padding, or with a wrong one."""

    def __init__(self, model: Any, masks: list[Any]) -> None:
        super().__init__()
        self.inside, self.masks = model, iter(masks)

    def forward(self, batch: Any) -> Any:
        output = dict(self.inside(batch))
        mask = next(self.masks)
        return {k: v for k, v in output.items() if k != "attention_mask"} | ({} if mask is None else mask)


def test_states_without_a_mask_all_count(model: Any) -> None:
    packed = Packed(model, [None, {"attention_mask": torch.ones(6, 1)}, None, None])
    loss = IStarLoss(packed, losses.MultipleNegativesRankingLoss(packed), estimator="unbiased")
    with pytest.raises(iso.InvalidValueError, match="attention_mask"):
        loss(features(model, ANCHORS, POSITIVES))
    batches = features(model, ANCHORS, POSITIVES)
    penalty = loss(batches)["istar_loss"]
    everything = []
    for batch in features(model, ANCHORS, POSITIVES):
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        everything += model[0].auto_model(**inputs, output_hidden_states=True).hidden_states[1:]
    assert penalty.item() == pytest.approx(iso.istar_loss(everything, estimator="unbiased").item(), rel=1e-12)


def test_refresh_reads_the_covariance_of_the_states(model: Any) -> None:
    wrapped = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), zeta=0.5)
    wrapped.refresh(ANCHORS + POSITIVES, batch_size=5)
    assert model.training
    truth = np.cov(union_of_states(model, ANCHORS, POSITIVES).detach().numpy().T)
    assert np.abs(wrapped.penalty.shrinkage.cov.numpy() - truth).max() < 1e-12 * np.abs(truth).max()
    cov = ShrinkageCovariance(16, layers=[2], skip_embeddings=True)
    few = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), layers=[2], shrinkage_cov=cov)
    few.refresh(ANCHORS, max_points=12)
    assert few.penalty.shrinkage.count == 12


def test_wrapped_models(model: Any) -> None:
    """DDP and torch.compile stand around the model, and the trainer puts them into the losses' `model`."""
    plain = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), estimator="unbiased", lam=2.0)
    expected = gradients(model, total(plain(features(model, ANCHORS, POSITIVES))))
    trainer = SentenceTransformerTrainer.__new__(SentenceTransformerTrainer)  # the method needs nothing of it
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrappers = [
                torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True),
                torch.compile(model, backend="eager"),
            ]
            for wrapper in wrappers:
                loss = IStarLoss(model, losses.MultipleNegativesRankingLoss(model), estimator="unbiased", lam=2.0)
                loss = trainer.override_model_in_loss(loss, wrapper)
                model.zero_grad()
                total(loss(features(model, ANCHORS, POSITIVES))).backward()
                found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
                close(found, expected)
    finally:
        torch.distributed.destroy_process_group()


# The trainer


@pytest.fixture
def trained(folder: Path, tmp_path: Path) -> Iterator[Any]:
    """Make a trainer by the arguments that matter; plain gradient descent, so that a step shows its gradient."""
    pairs = datasets.Dataset.from_dict({"anchor": ANCHORS, "positive": POSITIVES})

    def make(loss_of: Any, *, name: str = "out", callbacks: Any = None, evaluator: Any = None, **given: Any) -> Any:
        model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(16, "mean")], device="cpu").double()
        loss = loss_of(model)
        defaults: dict[str, Any] = {
            "per_device_train_batch_size": 3,
            "num_train_epochs": 1,
            "learning_rate": 0.05,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 3,
            "dataloader_pin_memory": False,
        }
        args = SentenceTransformerTrainingArguments(str(tmp_path / name), **{**defaults, **given})
        return SentenceTransformerTrainer(
            model,
            args,
            train_dataset=pairs,
            eval_dataset=pairs if given.get("eval_strategy", "no") != "no" else None,
            loss=loss,
            evaluator=evaluator,
            callbacks=callbacks(loss) if callbacks else None,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield make


def shrinking(model: Any) -> Any:
    return IStarLoss(model, losses.MultipleNegativesRankingLoss(model), lam=0.5, zeta=0.4)


def unbiased(model: Any) -> Any:
    return IStarLoss(model, losses.MultipleNegativesRankingLoss(model), lam=0.5, estimator="unbiased")


class Seen(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def test_trainer_logs_trains_and_refreshes(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    covariances, refresh = [], IStarLoss.refresh

    def noting(self: Any, texts: Any, **kwargs: Any) -> None:
        refresh(self, texts, **kwargs)
        covariances.append(self.penalty.shrinkage.cov.clone())

    monkeypatch.setattr(IStarLoss, "refresh", noting)
    seen = Seen()
    evaluator = IsoScoreStarEvaluator(ANCHORS + POSITIVES, name="dev")
    trainer = trained(
        shrinking,
        callbacks=lambda loss: [IStarCallback(loss), seen],
        evaluator=evaluator,
        num_train_epochs=2,
        eval_strategy="epoch",
    )
    before = union_of_states(trainer.model, ANCHORS, POSITIVES).detach().numpy()
    trainer.train()
    assert len(covariances) == 2  # before each epoch, from all rows of both columns
    assert np.abs(covariances[0].numpy() - np.cov(before.T)).max() < 1e-12 * np.abs(covariances[0].numpy()).max()
    assert not torch.allclose(covariances[0], covariances[1])
    steps = [log for log in seen.logs if "loss" in log]
    assert len(steps) == 4
    for log in steps:
        assert log["loss"] == pytest.approx(
            log["task_loss"] + log["istar_loss"], abs=3e-4
        )  # each is rounded to 4 digits
        assert log["istar_loss"] == pytest.approx(0.5 * (1 - log["isoscore_star"]), abs=1e-4)
    evaluated = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert all(0 < log["eval_dev_isoscore_star"] < 1 for log in evaluated)
    assert not any("eval_istar_loss" in log for log in evaluated)
    assert sum("isoscore_star" in log for log in trainer.state.log_history) == 4


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_of_the_trainer_is_the_gradient_by_hand(trained: Any, accumulation: int) -> None:
    trainer = trained(
        unbiased, per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation, max_steps=1
    )
    model = trainer.model
    start = [p.detach().clone() for p in model.parameters()]
    order = list(trainer.get_train_dataloader())  # the same seed gives the same order again
    rows = [batch["anchor_input_ids"] for batch in order]
    anchors = [[sentence(model, ids) for ids in part] for part in rows]
    expected = [torch.zeros_like(p) for p in start]
    model.train()
    for part in anchors:
        positives = [POSITIVES[ANCHORS.index(anchor)] for anchor in part]
        task = losses.MultipleNegativesRankingLoss(model)(features(model, part, positives), None)
        states = union_of_states(model, part, positives)
        whole = task + iso.istar_loss(states, lam=0.5, estimator="unbiased")
        for sums, gradient in zip(expected, gradients(model, whole), strict=True):
            sums += gradient / accumulation
    trainer = trained(
        unbiased, per_device_train_batch_size=6 // accumulation, gradient_accumulation_steps=accumulation, max_steps=1
    )
    trainer.train()
    moved = [(old - new.detach()) / 0.05 for old, new in zip(start, trainer.model.parameters(), strict=True)]
    close(moved, expected, 1e-10)  # the difference of two weights loses some digits


def sentence(model: Any, ids: torch.Tensor) -> str:
    return model.tokenizer.decode(ids, skip_special_tokens=True)


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


def test_bf16_autocast_leaves_the_penalty_in_float32(trained: Any) -> None:
    trainer = trained(unbiased, bf16=True)
    trainer.model.float()
    kinds = []
    trainer.loss.penalty.register_forward_hook(lambda module, args, output: kinds.append(output.dtype))
    trainer.train()
    assert kinds == [torch.float32] * 2
    assert all(np.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)


def test_isotropy_rises_and_falls_with_lam(trained: Any) -> None:
    scores = {}
    for lam in (-5.0, 5.0):
        trainer = trained(
            lambda model, lam=lam: IStarLoss(
                model, losses.MultipleNegativesRankingLoss(model), lam=lam, estimator="unbiased"
            ),
            num_train_epochs=10,
            logging_steps=100,
        )
        before = iso.isoscore(union_of_states(trainer.model, ANCHORS).detach()).item()
        trainer.train()
        scores[lam] = iso.isoscore(union_of_states(trainer.model, ANCHORS).detach()).item() - before
    assert scores[-5.0] < 0 < scores[5.0]


def test_evaluator(model: Any) -> None:
    evaluator = IsoScoreStarEvaluator(ANCHORS + POSITIVES, name="dev")
    embeddings = model.encode(ANCHORS + POSITIVES)
    expected = iso.isoscore_unbiased(embeddings)
    result = evaluator(model)
    assert result["dev_isoscore_star"] == pytest.approx(expected, rel=1e-12)
    assert result["dev_effective_dimensions"] == pytest.approx(1 + 15 * expected, rel=1e-12)
    assert evaluator.primary_metric == "dev_isoscore_star"
    shrunk = IsoScoreStarEvaluator(ANCHORS, np.eye(16), 0.5, "shrinkage")(model)
    assert shrunk["isoscore_star"] == pytest.approx(iso.isoscore_star(model.encode(ANCHORS), np.eye(16), 0.5))
    with pytest.raises(iso.DegenerateDataError, match="at least 4"):
        IsoScoreStarEvaluator(ANCHORS[:3])(model)


def test_config_for_the_model_card(model: Any) -> None:
    config = unbiased(model).get_config_dict()
    assert config["loss"] == "MultipleNegativesRankingLoss"
    assert (config["lam"], config["estimator"]) == (0.5, "unbiased")
    assert "Rudman" in unbiased(model).citation


RANK = """
import gc, sys, warnings
warnings.simplefilter("ignore")
import torch
import test_sentence_transformers as here
from pathlib import Path

trainer = here.similarity_trainer(Path(sys.argv[1]), Path(sys.argv[2]), batch=3)
trainer.train()
assert type(trainer.loss.model).__name__ == type(trainer.loss.loss.model).__name__ == "DistributedDataParallel"
if trainer.args.process_index == 0:
    torch.save([*trainer.model.state_dict().values(), trainer.loss.penalty.shrinkage.cov], sys.argv[3])
# Its DDP model holds the group, whose threads would otherwise outlive it, and may abort a process that ends.
del trainer
gc.collect()
torch.distributed.destroy_process_group()
"""


def similarity_trainer(folder: Path, out: Path, batch: int) -> Any:
    model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(16, "mean")], device="cpu").double()
    columns = {"anchor": ANCHORS, "positive": POSITIVES, "label": np.linspace(0, 1, 6)}
    loss = IStarLoss(model, losses.CosineSimilarityLoss(model), lam=0.5, zeta=0.4)
    args = SentenceTransformerTrainingArguments(
        str(out),
        per_device_train_batch_size=batch,
        num_train_epochs=3,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    dataset = datasets.Dataset.from_dict(columns)
    return SentenceTransformerTrainer(model, args, train_dataset=dataset, loss=loss, callbacks=[IStarCallback(loss)])


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_global_batch(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    shared["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), shared.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", RANK, str(folder), str(tmp_path / "out"), str(tmp_path / "result.pt")]
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment) for environment in ranks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = similarity_trainer(folder, tmp_path / "alone", batch=6)
        alone.train()
    assert [process.wait(timeout=180) for process in processes] == [0, 0]
    # The labels' loss is a mean over pairs, so that of the global batch is the mean of the ranks'; the penalty is the
    # global batch's on every rank. Σ_S is read by both ranks, half of the texts each.
    expected = [*alone.model.state_dict().values(), alone.loss.penalty.shrinkage.cov]
    for ours, truth in zip(torch.load(tmp_path / "result.pt"), expected, strict=True):
        assert (ours - truth).abs().max() < 1e-12 * truth.abs().max() + 1e-15


def test_the_example_of_the_documentation(trained: Any) -> None:
    source = (ROOT / "docs" / "sentence_transformers.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", source, flags=re.DOTALL)
    assert len(example.splitlines()) < 15
    ready = trained(unbiased)
    names = {"model": ready.model, "args": ready.args, "pairs": ready.train_dataset, "sentences": ANCHORS}
    exec(compile(example, "docs/sentence_transformers.md", "exec"), names)
    assert names["loss"].penalty.shrinkage.cov is not None
    assert any("isoscore_star" in log for log in names["trainer"].state.log_history)
