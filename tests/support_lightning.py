"""A small module, the same with the penalty written into it, and a fit, for the tests of the Lightning integration."""

from __future__ import annotations

from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

ROWS, TOKENS, DIM = 24, 5, 6


class Plain(pl.LightningModule):
    """An encoder of two layers over padded tokens, which knows nothing of isotropy."""

    answer: Any = staticmethod(lambda loss: loss)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, DIM)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(DIM, 1)

    def states(self, ids: torch.Tensor) -> list[torch.Tensor]:
        states = [self.embed(ids)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states[1:]

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.answer_of(self.states(ids)[-1], attention_mask)

    def answer_of(self, last: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask[..., None].to(self.dtype)
        return self.head((last * weights).sum(1) / weights.sum(1))[:, 0]

    def task(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (self(batch["ids"], batch["attention_mask"]) - batch["labels"]).square().mean()

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> Any:
        return self.answer(self.task(batch))

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.task(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class ByHand(Plain):
    """The same, with the penalty where a person would write it."""

    def __init__(self, penalty: nn.Module) -> None:
        super().__init__()
        self.penalty = penalty
        self.scores: list[float] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        mask = batch["attention_mask"]
        states = self.states(batch["ids"])
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            points = torch.cat([state[mask.bool()] for state in states]).to(self.dtype)
            self.scores.append(float(iso.isoscore(points)))
        task = (self.answer_of(states[-1], mask) - batch["labels"]).square().mean()
        return task + self.penalty(states, mask)


def examples(dtype: torch.dtype = torch.float64) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 20, (ROWS, TOKENS), generator=generator)
    lengths = torch.randint(2, TOKENS + 1, (ROWS, 1), generator=generator)
    masks = (torch.arange(TOKENS) < lengths).long()
    return [{"ids": i, "attention_mask": m, "labels": i[0].to(dtype) / 20} for i, m in zip(ids, masks, strict=True)]


class Recorder(pl.loggers.logger.Logger):
    """Keeps what is logged."""

    name, version = "recorder", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def fit(model: Any, *callbacks: Any, batch_size: int = 4, loaders: Any = None, **options: Any) -> Any:
    settings = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "log_every_n_steps": 2, **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    loader = DataLoader(examples(next(model.parameters()).dtype), batch_size)
    trainer.fit(model, loader if loaders is None else loaders, loader)
    return trainer


def difference(a: nn.Module, b: nn.Module) -> float:
    theirs = dict(b.named_parameters())
    return max(float((p.detach() - theirs[name].detach()).abs().max()) for name, p in a.named_parameters())
