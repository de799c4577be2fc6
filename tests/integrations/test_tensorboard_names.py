"""What TensorBoard, by its own reader, finds in the event files of real trainings: names, steps and values."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Give every scalar of the runs in a folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    for place in sorted({file.parent for file in folder.rglob("*tfevents*")}):
        events = EventAccumulator(str(place)).Reload()
        for tag in events.Tags()["scalars"]:
            found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, istar: Any) -> tuple[Any, dict[str, Any]]:
    pytest.importorskip("transformers")
    from support_huggingface import arguments, bert, data, made
    from transformers import Trainer

    from isoscore_star.integrations.huggingface import IsotropyMonitorCallback, IStarTrainer

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    model = made(bert, torch.float32)
    args = arguments(tmp_path, per_device_train_batch_size=4, num_train_epochs=4, eval_strategy="epoch")
    args.report_to = ["tensorboard"]
    common = {"model": model, "args": args, "train_dataset": data(model), "eval_dataset": data(model)}
    trainer = Trainer(**common) if istar is None else IStarTrainer(**common, istar=istar)
    trainer.add_callback(IsotropyMonitorCallback(trainer, every=4))
    trainer.train()
    return trainer, read(tmp_path / "events")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tensorboard.*:DeprecationWarning")
def test_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, found = trained(tmp_path, monkeypatch, istar=None)
    scores = sorted(name for name in found if "isoscore" in name)
    assert scores == ["train/isoscore_star", "train/isoscore_star/layer_01", "train/isoscore_star/layer_02"]
    for name in scores:
        history = [
            (row["step"], row[name.removeprefix("train/")]) for row in trainer.state.log_history if name[6:] in row
        ]
        assert [step for step, _ in found[name]] == [1, 4, 8]
        assert np.allclose(np.array(found[name]), np.array(history), rtol=1e-6)
    assert [step for step, _ in found["train/loss"]] == list(range(1, 9))
    assert not [name for name in found if name.startswith(("isoscore", "istar"))]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tensorboard.*:DeprecationWarning")
def test_trainer_with_the_penalty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = trained(tmp_path, monkeypatch, istar={"lam": 0.1, "zeta": 0.0})
    expected = {"train/isoscore_star", "train/istar_penalty", "eval/isoscore_star"}
    assert expected <= set(found)
    assert [step for step, _ in found["train/isoscore_star"]] == list(range(1, 9))  # the penalty's alone
    assert [step for step, _ in found["train/isoscore_star/layer_01"]] == [1, 4, 8]
    assert [step for step, _ in found["eval/isoscore_star"]] == [2, 4, 6, 8]
    penalty, score = (np.array(found[name])[:, 1] for name in ("train/istar_penalty", "train/isoscore_star"))
    assert np.allclose(penalty, 0.1 * (1 - score), atol=1e-4)


def test_names_sort_as_layers_do() -> None:
    from isoscore_star.backends.torch import IsotropyMonitor

    class Deep(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(3, 3)) for _ in range(12))

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    model = Deep()
    with IsotropyMonitor(model) as monitor:
        model(torch.randn(8, 5, 3))
        names = list(monitor.step())
    numbers = [int(re.search(r"layer_(\d+)", name)[1]) for name in sorted(names)[1:]]
    assert numbers == list(range(12))


@pytest.mark.slow
def test_lightning(tmp_path: Path) -> None:
    pl = pytest.importorskip("lightning.pytorch")
    from support_lightning import DIM, Plain, fit

    from isoscore_star.backends.torch import IStarLoss
    from isoscore_star.integrations.lightning import IsotropyMonitorCallback, IStarCallback

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = pl.loggers.TensorBoardLogger(str(tmp_path))
        penalty = IStarLoss(DIM, lam=0.1, estimator="unbiased")
        monitor = IsotropyMonitorCallback("layers.*", every=5, union=False)
        trainer = fit(Plain(), IStarCallback(penalty, states="layers.*"), monitor, logger=logger)
    found = read(tmp_path)
    assert set(found) >= {"train/isoscore_star", "train/istar_penalty"}
    for layer in ("train/isoscore_star/layer_00", "train/isoscore_star/layer_01"):
        assert [step for step, _ in found[layer]] == [0, 4, 9]
        assert found[layer][-1][1] == pytest.approx(float(trainer.callback_metrics[layer]), rel=1e-6)
    assert trainer.global_step == 12
