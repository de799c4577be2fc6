"""`ShrinkageCovariance` against covariances of stacked points, and stopped runs against ones that never stopped."""

from __future__ import annotations

import importlib.util
import weakref
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from isoscore_star.backends.torch import HiddenStates, IStarLoss, ShrinkageCovariance  # noqa: E402

LENGTHS = [[7, 4, 2], [5, 7, 1], [3, 3, 6]]


class Encoder(nn.Module):
    """Two layers with dropout that answer as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, 6)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.5)) for _ in range(2))
        self.seen: list[str] = []
        self.double()

    def forward(
        self, input_ids: Any, attention_mask: Any = None, output_hidden_states: bool = False, **rest: Any
    ) -> Any:
        self.seen = sorted(rest)
        states = [self.embed(input_ids)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        answer = nn.Module()
        answer.hidden_states = tuple(states) if output_hidden_states else None
        return answer


def _batches() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    masks = [(torch.arange(7) < torch.tensor(lengths)[:, None]).long() for lengths in LENGTHS]
    return [{"input_ids": torch.randint(0, 20, (3, 7), generator=generator), "attention_mask": mask} for mask in masks]


def _points(model: nn.Module, batches: list[Any], first_layer: int = 0) -> list[list[torch.Tensor]]:
    """Give each batch's points that are no padding, layer by layer, the slow way."""
    model.eval()
    with torch.no_grad():
        answers = [model(**batch, output_hidden_states=True).hidden_states[first_layer:] for batch in batches]
    return [[s[b["attention_mask"].bool()] for s in states] for states, b in zip(answers, batches, strict=True)]


def _stacked(points: list[list[torch.Tensor]]) -> np.ndarray:
    return torch.cat([layer for layers in points for layer in layers]).numpy()


def test_all_points_without_padding() -> None:
    model, batches = Encoder(), _batches()
    every = ShrinkageCovariance(6).fit(model, batches)
    points = _stacked(_points(model, batches))
    assert every.count == len(points) == 3 * sum(map(sum, LENGTHS))
    assert every.cov.dtype == torch.float64
    assert np.allclose(every.cov, np.cov(points.T), rtol=1e-12, atol=0)
    without_embeddings = ShrinkageCovariance(6, skip_embeddings=True).fit(model, batches)
    assert np.allclose(without_embeddings.cov, np.cov(_stacked(_points(model, batches, 1)).T), rtol=1e-12, atol=0)
    last = ShrinkageCovariance(6, layers=[-1]).fit(model, iter(batches))
    assert np.allclose(last.cov, np.cov(_stacked(_points(model, batches, 2)).T), rtol=1e-12, atol=0)


@pytest.mark.parametrize("wanted", [2, 38, 40, 50])
def test_the_last_batch_is_cut_so_that_the_count_is_exact(wanted: int) -> None:
    model, batches = Encoder(), _batches()
    first, second, _ = _points(model, batches)
    seen: list[tuple[int, int]] = []
    fitted = ShrinkageCovariance(6, max_points=7).fit(model, batches, wanted, progress=lambda *now: seen.append(now))
    assert fitted.count == wanted
    assert seen[-1] == (wanted, wanted)
    last = first if wanted < 39 else second
    left = wanted if wanted < 39 else wanted - 39
    # Each layer's first tokens, as evenly as the number of layers allows.
    shares = sorted((left + i) // 3 for i in range(3))
    part = torch.cat([layer[:share] for layer, share in zip(last, shares, strict=True)])
    expected = part if wanted < 39 else torch.cat([*first, part])
    assert np.allclose(fitted.cov, np.cov(expected.numpy().T), rtol=1e-10, atol=1e-15)
    assert len(seen) == (1 if wanted < 39 else 2)  # and no batch after it was asked for


def test_layers_of_different_lengths_are_cut_exactly() -> None:
    layers = [torch.randn(rows, 6, dtype=torch.float64) for rows in (5, 1, 9)]
    for wanted in range(2, 16):
        fitted = ShrinkageCovariance(6).fit(Encoder(), [layers], wanted, forward=lambda _, batch: (batch, None))
        assert fitted.count == wanted


def test_training_goes_on_as_if_nothing_had_been_read() -> None:
    model, batches = Encoder().train(), _batches()
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(batches, batch_size=None, shuffle=True, generator=generator)
    before, own_before = torch.get_rng_state(), generator.get_state()
    fitted = ShrinkageCovariance(6).fit(model, loader)
    ShrinkageCovariance(6).fit(model, DataLoader(batches, batch_size=None, shuffle=True))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(generator.get_state(), own_before)
    assert not fitted.cov.requires_grad
    # Dropout was off, or the values would not be those of the evaluation mode.
    assert np.allclose(fitted.cov, np.cov(_stacked(_points(Encoder(), batches)).T), rtol=1e-12, atol=0)

    def broken() -> Iterator[Any]:
        yield batches[0]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk"):
        ShrinkageCovariance(6).fit(model, broken())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)


def test_points_are_not_kept() -> None:
    alive: list[Any] = []

    def forward(model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, None]:
        assert not any(state() is not None for state in alive[:-1])  # the last one may still be in a variable
        state = batch * 2
        alive.append(weakref.ref(state))
        return state, None

    batches = (torch.randn(10, 6) for _ in range(20))
    assert ShrinkageCovariance(6).fit(nn.Identity(), batches, forward=forward).count == 200


def test_kinds_of_batches() -> None:
    transformers = pytest.importorskip("transformers")
    model, batches = Encoder(), _batches()
    expected = ShrinkageCovariance(6).fit(model, batches).cov
    for kind in (dict, UserDict, transformers.BatchEncoding):
        labelled = [kind({**batch, "labels": torch.zeros(3)}) for batch in batches]
        assert torch.equal(ShrinkageCovariance(6).fit(model, labelled).cov, expected)
        assert model.seen == []
    with HiddenStates(model, ["embed", "layers.*"]) as states:

        def forward(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> tuple[Any, torch.Tensor]:
            model(batch[0])
            return states.take(), batch[1]

        tuples = [(batch["input_ids"], batch["attention_mask"]) for batch in batches]
        assert torch.equal(ShrinkageCovariance(6).fit(model, tuples, forward=forward).cov, expected)


def test_models_without_hidden_states_are_pointed_to_forward() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    model, batches = transformers.T5Model(config), [{**b, "decoder_input_ids": b["input_ids"]} for b in _batches()]
    with pytest.raises(iso.InvalidValueError, match=r"T5Model returns has no hidden_states\. Give forward="):
        ShrinkageCovariance(8).fit(model, batches)
    assert model.training

    def forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[Any, torch.Tensor]:
        return model(**batch, output_hidden_states=True).encoder_hidden_states, batch["attention_mask"]

    assert ShrinkageCovariance(8).fit(model, batches, forward=forward).count == 3 * sum(map(sum, LENGTHS))
    with pytest.raises(iso.InvalidValueError, match=r"Linear takes no output_hidden_states.*forward=.*HiddenStates"):
        ShrinkageCovariance(8).fit(nn.Linear(8, 8), batches)
    with pytest.raises(iso.InvalidTypeError, match=r"mappings.*got Tensor.*forward="):
        ShrinkageCovariance(6).fit(Encoder(), [torch.zeros(3, 7, dtype=torch.long)])
    with pytest.raises(iso.InvalidTypeError, match="a pair"):
        ShrinkageCovariance(6).fit(Encoder(), _batches(), forward=lambda model, batch: model(**batch))


def test_progress_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    from rich import progress

    totals: list[Any] = []
    add_task = progress.Progress.add_task
    monkeypatch.setattr(
        progress.Progress,
        "add_task",
        lambda *args, **kwargs: totals.append(kwargs["total"]) or add_task(*args, **kwargs),
    )
    ShrinkageCovariance(6).fit(Encoder(), _batches(), 50, progress=True)
    assert totals == [50]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ShrinkageCovariance(6).fit(Encoder(), _batches(), 50, progress=True).count == 50
    assert totals == [50]


def test_fixed_and_epoch_leave_the_batches_alone() -> None:
    cov = np.diag(np.arange(1.0, 7))
    for policy in ("fixed", "epoch"):
        shrinkage = ShrinkageCovariance(6, policy, shrinkage_cov=cov)
        penalty = IStarLoss(6, zeta=0.3, shrinkage_cov=shrinkage)
        X = torch.randn(20, 6, dtype=torch.float64)
        assert torch.equal(penalty(X), iso.istar_loss(X, cov, 0.3))
        assert np.array_equal(shrinkage.current(), cov)
    with pytest.raises(iso.InvalidValueError, match='"fixed" keeps'):
        ShrinkageCovariance(6, "fixed", shrinkage_cov=cov).fit(Encoder(), _batches())


def test_half_precision_models_keep_the_covariance() -> None:
    shrinkage = ShrinkageCovariance(6, "running")
    shrinkage.update([torch.randn(20, 6)], [None])
    before = {name: value.clone() for name, value in shrinkage.state_dict().items()}
    inside = nn.ModuleDict({"penalty": IStarLoss(6, shrinkage_cov=shrinkage), "linear": nn.Linear(2, 2)})
    for cast in (inside.half, inside.bfloat16):
        cast()
        assert inside["linear"].weight.dtype != torch.float32
        assert all(torch.equal(value, before[name]) for name, value in shrinkage.state_dict().items())
    assert inside.to("meta")["penalty"].shrinkage.cov.device.type == "meta"


def _train(steps: range, state: dict[str, Any], policy: str, *, fresh: bool) -> dict[str, Any]:
    torch.manual_seed(3 if fresh else 99)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    given = np.eye(6) if policy == "fixed" else None
    shrinkage = ShrinkageCovariance(6, policy, shrinkage_cov=given, decay=0.7)
    penalty, optimizer = IStarLoss(6, lam=-1.0, zeta=0.5, shrinkage_cov=shrinkage), torch.optim.Adam(model.parameters())
    parts = {"model": model, "penalty": penalty, "optimizer": optimizer}
    for name, part in parts.items():
        if name in state:
            part.load_state_dict(state[name])
    for step in steps:
        X = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        if policy == "epoch" and step % 4 == 0:
            shrinkage.fit(model, [X * 2], forward=lambda model, batch: (model(batch), None))
        optimizer.zero_grad()
        penalty(model(X)).backward()
        optimizer.step()
    return {name: part.state_dict() for name, part in parts.items()}


@pytest.mark.parametrize("policy", ["epoch", "running", "fixed", "identity"])
def test_a_run_that_was_stopped_equals_one_that_was_not(policy: str, tmp_path: Path) -> None:
    whole = _train(range(10), {}, policy, fresh=True)
    torch.save(_train(range(6), {}, policy, fresh=True), tmp_path / "checkpoint.pt")
    resumed = _train(range(6, 10), torch.load(tmp_path / "checkpoint.pt"), policy, fresh=False)
    for name in ("model", "penalty"):
        assert whole[name].keys() == resumed[name].keys()
        assert all(torch.equal(value, resumed[name][key]) for key, value in whole[name].items())
    assert "shrinkage.cov" in whole["penalty"]


def test_states_before_it_is_known_and_of_another_precision() -> None:
    unknown = ShrinkageCovariance(6, "running").state_dict()
    assert unknown == {}
    used = ShrinkageCovariance(6, "running")
    used.update([torch.randn(20, 6)], [None])
    used.load_state_dict(unknown)
    assert used.cov is None
    precise = ShrinkageCovariance(6, "epoch", shrinkage_cov=np.eye(6) / 3)
    target = ShrinkageCovariance(6, "epoch", shrinkage_cov=torch.eye(6))
    target.load_state_dict(precise.state_dict())
    assert torch.equal(target.cov, precise.cov)


def test_errors() -> None:
    for policy, message in (("epoch", r"fit\(model, batches\)"), ("running", "training mode"), ("fixed", "Give")):
        with pytest.raises(iso.InvalidValueError, match=f"no covariance yet.*{message}"):
            IStarLoss(6, shrinkage_cov=ShrinkageCovariance(6, policy)).eval()(torch.randn(20, 6))
    for wrong, message in (
        ({"policy": "sometimes"}, "'epoch', 'running', 'fixed', 'identity'"),
        ({"decay": 1.0}, "1 would never"),
        ({"decay": 1.5}, r"\[0, 1\]"),
        ({"max_points": 1}, "at least 2"),
        ({"sync": "maybe"}, "sync"),
        ({"layers": []}, "layers"),
        ({"shrinkage_cov": np.eye(5)}, r"\(6, 6\)"),
        ({"shrinkage_cov": -np.eye(6)}, "negative"),
    ):
        with pytest.raises(iso.InvalidValueError, match=message):
            ShrinkageCovariance(6, **wrong)
    with pytest.raises(iso.InvalidTypeError, match="max_points"):
        ShrinkageCovariance(6, max_points=2.5)
    identity = lambda _, batch: (batch, None)  # noqa: E731
    for batches, message in (
        ([], "at least 2 points; got 0"),
        ([torch.ones(4, 6)], "every variance is zero"),
        ([torch.full((4, 6), torch.nan)], "finite"),
        ([torch.ones(4, 5)], "dim=6"),
    ):
        with pytest.raises(iso.InvalidValueError, match=message):
            ShrinkageCovariance(6).fit(nn.Identity(), batches, forward=identity)
    with pytest.raises(iso.InvalidValueError, match="not initialised"):
        ShrinkageCovariance(6, sync=True).fit(Encoder(), _batches())
    with pytest.raises(iso.InvalidValueError, match=r"mask: expected shape \(3, 7\)"):
        ShrinkageCovariance(6).fit(Encoder(), [{**_batches()[0], "attention_mask": torch.ones(3, 6)}])
