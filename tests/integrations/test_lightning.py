"""`IStarCallback` against modules whose own ``training_step`` has the penalty written into it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pl = pytest.importorskip("lightning.pytorch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from isoscore_star.backends.torch import CosineRegularizer, IStarLoss, ShrinkageCovariance  # noqa: E402
from isoscore_star.integrations.lightning import IStarCallback  # noqa: E402

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


def _rows(dtype: torch.dtype = torch.float64) -> list[dict[str, torch.Tensor]]:
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


@pytest.fixture(autouse=True)
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        # What Lightning advises on workers, on devices, and of torch's own deprecations.
        for message in (".*does not have many workers.*", ".*LeafSpec.*", ".*sampler has shuffling.*"):
            warnings.filterwarnings("ignore", message)
        warnings.filterwarnings("ignore", module="lightning")
        yield


def _fit(model: Any, *callbacks: Any, batch_size: int = 4, loaders: Any = None, **options: Any) -> Any:
    settings = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "log_every_n_steps": 2, **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    loader = DataLoader(_rows(next(model.parameters()).dtype), batch_size)
    trainer.fit(model, loader if loaders is None else loaders, loader)
    return trainer


def _difference(a: nn.Module, b: nn.Module) -> float:
    theirs = dict(b.named_parameters())
    return max(float((p.detach() - theirs[name].detach()).abs().max()) for name, p in a.named_parameters())


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_equals_a_training_step_written_by_hand(accumulate: int, estimator: str) -> None:
    cov = None if estimator == "unbiased" else torch.diag(torch.arange(1.0, DIM + 1, dtype=torch.float64))
    options: dict[str, Any] = {"lam": -0.5, "zeta": 0.3, "shrinkage_cov": cov, "estimator": estimator}
    by_hand, plain, without = ByHand(IStarLoss(DIM, **options)).double(), Plain().double(), Plain().double()
    trainer: dict[str, Any] = {"accumulate_grad_batches": accumulate, "gradient_clip_val": 0.2}
    _fit(by_hand, **trainer)
    _fit(plain, IStarCallback(IStarLoss(DIM, **options)), **trainer)
    _fit(without, **trainer)
    assert _difference(plain, by_hand) == 0
    assert _difference(plain, without) > 1e-3


def test_mixed_precision_equals_a_training_step_written_by_hand() -> None:
    by_hand, plain = ByHand(IStarLoss(DIM, zeta=0.0)), Plain()
    _fit(by_hand, precision="bf16-mixed")
    callback = IStarCallback(IStarLoss(DIM, zeta=0.3, shrinkage_cov=ShrinkageCovariance(DIM)))
    _fit(Plain(), callback, precision="bf16-mixed")
    assert callback.penalty.shrinkage.cov.dtype == torch.float32
    _fit(plain, IStarCallback({"dim": DIM, "zeta": 0.0}), precision="bf16-mixed")
    assert _difference(plain, by_hand) == 0
    true_half = IStarCallback(IStarLoss(DIM, zeta=0.3, shrinkage_cov=ShrinkageCovariance(DIM)))
    _fit(Plain(), true_half, precision="bf16-true")
    assert true_half.penalty.shrinkage.cov.dtype == torch.float32


@pytest.mark.parametrize("penalty", [IStarLoss(DIM, zeta=0.0, lam=2.0, log_layers=True), CosineRegularizer(2.0)])
def test_answers_of_training_step(penalty: Any) -> None:
    as_tensor, as_dict = Plain().double(), Plain().double()
    as_dict.answer = lambda loss: {"loss": loss, "more": 1}
    seen: list[Any] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            seen.append(outputs)

    _fit(as_tensor, IStarCallback(penalty))
    _fit(as_dict, IStarCallback(penalty), Watch())
    assert _difference(as_tensor, as_dict) == 0
    assert all(output["more"] == 1 for output in seen)
    skipping, nothing = Plain().double(), Plain().double()
    skipping.answer = lambda loss: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning tells that steps are left out
        _fit(skipping, IStarCallback(penalty))
    assert _difference(skipping, nothing) == 0
    wrong = Plain().double()
    wrong.answer = lambda loss: {"task": loss}
    with pytest.raises(iso.InvalidTypeError, match="the key 'loss'"):
        _fit(wrong, IStarCallback(penalty))
    assert "training_step" not in vars(wrong)  # after an exception, too


def test_means_of_the_score_are_logged() -> None:
    by_hand = ByHand(IStarLoss(DIM, zeta=0.0, lam=-0.5)).double()
    _fit(by_hand, max_epochs=1, batch_size=3)
    recorder, model = Recorder(), Plain().double()
    penalty = IStarLoss(DIM, zeta=0.0, lam=-0.5, log_layers=True)
    trainer = _fit(model, IStarCallback(penalty), max_epochs=1, batch_size=3, logger=recorder, log_every_n_steps=3)
    assert len(by_hand.scores) == 8
    expected = [sum(by_hand.scores[i : i + 3]) / len(by_hand.scores[i : i + 3]) for i in (0, 3, 6)]
    rows = [row for _, row in recorder.rows if "train/isoscore_star" in row]
    assert [row["train/isoscore_star"] for row in rows] == pytest.approx(expected, rel=1e-6)
    assert [row["train/istar_loss"] for row in rows] == pytest.approx([-0.5 * (1 - e) for e in expected], rel=1e-6)
    assert {f"train/isoscore_star/layer_{i:02d}" for i in range(2)} < set(rows[0])
    assert trainer.callback_metrics["train/isoscore_star"] == pytest.approx(expected[-1], rel=1e-6)
    assert "training_step" not in vars(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_logs_only_complete_steps_under_accumulation() -> None:
    recorder = Recorder()
    _fit(
        Plain(),
        IStarCallback(IStarLoss(DIM, zeta=0.0)),
        logger=recorder,
        accumulate_grad_batches=3,
        log_every_n_steps=1,
    )
    steps = [step for step, row in recorder.rows if "train/isoscore_star" in row]
    assert steps == [0, 1, 2, 3]  # six batches an epoch make two steps


def test_shrinkage_is_read_at_every_epoch() -> None:
    seen: list[torch.Tensor] = []

    class Watch(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            points = []
            pl_module.eval()
            with torch.no_grad():
                for row in _rows():
                    points += [s[row["attention_mask"].bool()] for s in pl_module.states(row["ids"])]
            pl_module.train()
            seen.append(torch.cov(torch.cat(points).T))

    shrinkage = ShrinkageCovariance(DIM)
    callback, covs = IStarCallback(IStarLoss(DIM, zeta=0.5, shrinkage_cov=shrinkage)), []
    fit = shrinkage.fit
    shrinkage.fit = lambda *args, **kwargs: covs.append(fit(*args, **kwargs).cov)  # type: ignore[method-assign]
    _fit(Plain().double(), callback, Watch(), max_epochs=3)
    assert len(covs) == 3
    for got, want in zip(covs, seen, strict=True):
        assert torch.allclose(got, want, rtol=1e-10, atol=1e-14)
    assert not torch.equal(covs[0], covs[2])


def test_shrinkage_from_data_of_its_own() -> None:
    loader = DataLoader(_rows()[:7], 3)
    given = IStarCallback({"dim": DIM}, data=loader, states="layers.*", mask="attention_mask")
    made = IStarCallback(
        {"dim": DIM},
        data=lambda trainer: [(batch["ids"], batch["attention_mask"]) for batch in loader],
        forward=lambda module, batch: module(*batch) if isinstance(batch, (tuple, list)) else module(**batch),
        mask=lambda batch, outputs: batch[1] if isinstance(batch, (tuple, list)) else batch["attention_mask"],
    )
    for callback in (given, made):
        _fit(Plain().double(), callback, max_epochs=1)
        assert callback.penalty.shrinkage.count == 2 * int(sum(row["attention_mask"].sum() for row in _rows()[:7]))
    assert torch.equal(given.penalty.shrinkage.cov, made.penalty.shrinkage.cov)


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
        trainer.fit(model, Same(_rows(), ROWS), ckpt_path=ckpt_path)
        return model, callback

    every = {"every_n_epochs": 1} if stopped == "after an epoch" else {"every_n_train_steps": 6}
    saver = pl.callbacks.ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1, **every)
    whole, whole_callback = run(3, None, saver)
    step = 8 if stopped == "after an epoch" else 6
    resumed, resumed_callback = run(3, tmp_path / "saved" / f"step={step}.ckpt")
    assert _difference(whole, resumed) == 0
    one, other = whole_callback.penalty.state_dict(), resumed_callback.penalty.state_dict()
    assert one.keys() == other.keys()
    assert {"shrinkage.cov", "log.start"} <= set(one)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_schedule_and_two_callbacks() -> None:
    lams: list[float] = []
    penalty = IStarLoss(DIM, zeta=0.0)

    def schedule(step: int) -> float:
        lams.append(0.1 * step)
        return lams[-1]

    trainer = _fit(
        Plain().double(),
        IStarCallback(penalty, schedule=schedule, states="layers.0"),
        IStarCallback(IStarLoss(DIM, lam=0.1, zeta=0.0), states=["layers.1"], prefix="last/"),
        max_epochs=1,
        accumulate_grad_batches=2,
    )
    assert lams == pytest.approx([0.0, 0.0, 0.1, 0.1, 0.2, 0.2])
    assert {"train/isoscore_star", "last/isoscore_star"} <= set(trainer.callback_metrics)


def test_errors() -> None:
    loss = IStarLoss(DIM, zeta=0.0)
    with pytest.raises(iso.InvalidTypeError, match="penalty: expected an IStarLoss"):
        IStarCallback(3.0)
    with pytest.raises(iso.InvalidValueError, match='reduction="none"'):
        IStarCallback(IStarLoss(DIM, zeta=0.0, reduction="none"))
    for skipping in (IStarLoss(DIM, zeta=0.0, skip_embeddings=True), {"dim": DIM, "skip_embeddings": True}):
        with pytest.raises(iso.InvalidValueError, match="hooks on layers give no embedding layer"):
            IStarCallback(skipping)
    with pytest.raises(iso.InvalidValueError, match=r"Close names: 'layers\.0'"):
        _fit(Plain().double(), IStarCallback(loss, states="encoder.layers.*"))
    with pytest.raises(iso.InvalidValueError, match=r"the batch has no 'mask'.*'attention_mask'"):
        _fit(Plain().double(), IStarCallback(loss, mask="mask"))

    class Manual(Plain):
        automatic_optimization = False

    with pytest.raises(iso.InvalidValueError, match="manual optimization"):
        _fit(Manual().double(), IStarCallback(loss))
    with pytest.raises(iso.InvalidValueError, match="persistent_workers"):
        _fit(Plain(), IStarCallback({"dim": DIM}), loaders=[DataLoader(_rows(torch.float32), 4)])


RANKS = """
import gc, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import torch
from torch.utils.data import DataLoader, DistributedSampler
from test_lightning import DIM, IStarCallback, IStarLoss, Plain, ShrinkageCovariance, _fit, _rows

# Lightning's own sampler would shuffle. This one gives both ranks together the rows of one process's batches.
mine = DistributedSampler(_rows(), num_replicas=2, rank=int(os.environ.get("LOCAL_RANK", 0)), shuffle=False)
part = DataLoader(_rows(), 4, sampler=mine)

def run(policy, estimator, **options):
    model = Plain().double()
    shrinkage = ShrinkageCovariance(DIM, policy, decay=0.6)
    penalty = IStarLoss(DIM, lam=-1.0, zeta=0.5, shrinkage_cov=shrinkage, estimator=estimator)
    trainer = _fit(model, IStarCallback(penalty), accumulate_grad_batches=2, **options)
    score = float(trainer.callback_metrics["train/isoscore_star"])
    return {"model": model.state_dict(), "cov": shrinkage.cov, "score": score}, trainer.global_rank

kinds = [("epoch", "shrinkage"), ("running", "shrinkage"), ("epoch", "unbiased")]
two = [run(*kind, loaders=part, strategy="ddp", devices=2) for kind in kinds]
rank = two[0][1]
# Trainers are in reference cycles, and hold the group, whose threads may abort a process that ends before them.
gc.collect()
torch.distributed.destroy_process_group()
one = [run(*kind, batch_size=8)[0] for kind in kinds] if rank == 0 else None
torch.save({"two": [result for result, _ in two], "one": one}, f"{sys.argv[2]}/{rank}.pt")
"""


def test_two_processes_train_as_one_with_the_same_global_batch(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    (tmp_path / "ranks.py").write_text(RANKS)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    here = str(Path(__file__).parent)
    command = [sys.executable, str(tmp_path / "ranks.py"), here, str(tmp_path)]
    done = subprocess.run(command, env=environment, timeout=240, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for here_two, there_two, one in zip(first["two"], second["two"], first["one"], strict=True):
        for name, value in one["model"].items():
            # Sums in another order: a few roundings (1e-16), which four steps of Adam make no thousand times more.
            assert torch.allclose(here_two["model"][name], value, rtol=0, atol=1e-12)
            assert torch.equal(here_two["model"][name], there_two["model"][name])
        assert here_two["score"] == pytest.approx(one["score"], rel=1e-6)  # logged in float32
        if one["cov"] is not None:
            assert torch.allclose(here_two["cov"], one["cov"], rtol=1e-9, atol=1e-12)
            assert torch.equal(here_two["cov"], there_two["cov"])
