"""Sentences, losses and gradients by hand, a BERT of two layers and its trainers, for sentence-transformers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
from torch import nn  # noqa: E402
from transformers import BertConfig, BertModel, BertTokenizerFast  # noqa: E402

from isoscore_star.integrations.sentence_transformers import (  # noqa: E402
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


def rows_of_states(model: Any, *columns: list[str], layers: slice = slice(1, None)) -> torch.Tensor:
    """The row of a batch that each of these states belongs to, whatever its column and layer."""
    parts, places = [], range(model[0].auto_model.config.num_hidden_layers + 1)[layers]
    for column in columns:
        mask = model.preprocess(column)["attention_mask"].bool()
        parts += [torch.arange(len(mask))[:, None].expand(mask.shape)[mask]] * len(places)
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


def shrinking(model: Any) -> Any:
    return IStarLoss(model, losses.MultipleNegativesRankingLoss(model), lam=0.5, zeta=0.4)


def unbiased(model: Any) -> Any:
    return IStarLoss(model, losses.MultipleNegativesRankingLoss(model), lam=0.5, estimator="unbiased")


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


def ranking(of: Any) -> nn.Module:
    base: nn.Module = losses.MultipleNegativesRankingLoss(of)
    return base


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


@pytest.fixture
def trainer_of(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make a trainer of a new model, which saves after every second step."""

    def make(loss_of: Callable[[Any], Any], name: str = "out", seed: int = 3, **more: Any) -> Any:
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
