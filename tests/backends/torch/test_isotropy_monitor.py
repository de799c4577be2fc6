"""`IsotropyMonitor` against formulas in NumPy on states that the test captures itself."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from isoscore_star.backends.torch import IsotropyMonitor, backend, frame, target  # noqa: E402

ROWS, TOKENS, DIM, LAYERS = 9, 6, 5, 3


class Model(nn.Module):
    """Layers over padded tokens, which keep what they put out."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh()) for _ in range(LAYERS))
        self.reentrant = reentrant
        self.seen: list[np.ndarray] = []

    def forward(self, x: Any, attention_mask: Any = None) -> Any:
        self.seen = []
        for layer in self.layers:
            x = layer(x) if self.reentrant is None else checkpoint(layer, x, use_reentrant=self.reentrant)
            self.seen.append(x.detach().float().double().numpy())
        return x


def batch(seed: int, rows: int = ROWS, dtype: Any = torch.float32) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, TOKENS, DIM, generator=generator).to(dtype)
    lengths = torch.randint(2, TOKENS + 1, (rows, 1), generator=generator)
    return x, (torch.arange(TOKENS) < lengths).long()


def halves(points: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Compute (PR − 1)/(d − 1) with 1/PR = ⟨A, B⟩/(tr A · tr B) of the covariances of even and odd sequences."""
    covariances = []
    for odd in (0, 1):
        rows = [p[s][m[s] != 0] for p, m in zip(points, masks, strict=True) for s in range(len(p)) if s % 2 == odd]
        covariances.append(np.cov(np.concatenate(rows).T))
    a, b = covariances
    pr = np.trace(a) * np.trace(b) / (a * b).sum()
    return float((pr - 1) / (DIM - 1))


def expected(seen: list[list[np.ndarray]], masks: list[np.ndarray]) -> dict[str, float]:
    """Give what a window of steps has to measure; sequences count on from step to step."""
    mask = np.concatenate(masks)
    layers = [np.concatenate([step[index] for step in seen]) for index in range(LAYERS)]
    scores = {f"train/isoscore_star/layer_{i:02d}": halves([layer], [mask]) for i, layer in enumerate(layers)}
    return {"train/isoscore_star": halves(layers, [mask] * LAYERS), **scores}


def steps(model: Any, monitor: IsotropyMonitor, count: int, inner: Model | None = None) -> list[Any]:
    """Run steps with backward passes; give the measured dict (or None), states and mask of each."""
    found = []
    for _ in range(count):
        x, mask = batch(monitor.steps)
        model(x.requires_grad_(), attention_mask=mask).square().mean().backward()
        seen = (model if inner is None else inner).seen
        found.append((monitor.step(), seen, mask.numpy()))
    return found


def test_scores_of_windows() -> None:
    model = Model()
    with IsotropyMonitor(model, every=4, window=2) as monitor:
        found = steps(model, monitor, 9)
    measured = [index + 1 for index, (scores, _, _) in enumerate(found) if scores is not None]
    assert measured == [2, 4, 8]
    for end in measured:
        window = found[end - 2 : end]
        wanted = expected([seen for _, seen, _ in window], [mask for _, _, mask in window])
        assert found[end - 1][0] == pytest.approx(wanted, rel=1e-5)
        assert all(type(score) is float for score in found[end - 1][0].values())
    union, first = monitor.layers[:2]
    assert (union.name, union.group_count, union.count) == ("union", 2 * ROWS, LAYERS * first.count)
    assert (first.name, first.module, first.group_count) == ("layer_00", "layers.0", 2 * ROWS)
    assert first.count == sum(int(mask.sum()) for _, _, mask in found[6:8])
    states = np.concatenate([seen[0][mask != 0] for _, seen, mask in found[6:8]])
    variances = states.var(0)
    assert (first.coordinate, first.coordinate_share) == (
        variances.argmax(),
        pytest.approx(variances.max() / variances.sum(), rel=1e-6),
    )


@pytest.mark.slow  # checkpoint loads the compiler
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:.*use_reentrant")
def test_gradient_checkpointing(reentrant: bool) -> None:
    model = Model(reentrant)
    with IsotropyMonitor(model, every=2) as monitor:
        found = steps(model, monitor, 2)
    for scores, seen, mask in found:
        assert scores == pytest.approx(expected([seen], [mask]), rel=1e-5)  # one call a layer, not two


def test_autocast() -> None:
    model = Model()
    x, mask = batch(0)
    with IsotropyMonitor(model, every=1) as monitor, torch.autocast("cpu", torch.bfloat16):
        assert model.layers[0](x).dtype == torch.bfloat16
        model(x, mask)
        scores = monitor.step()
    # The states are bfloat16, and the same for both: products of float32, of few points, differ by some 1e-6 of them.
    assert scores == pytest.approx(expected([model.seen], [mask.numpy()]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wrapped", "in place", "afterwards"])
def test_compiled_models(how: str) -> None:
    torch._dynamo.reset()
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(list(graph.graph.nodes)))
        return graph.forward

    class Pure(Model):
        def forward(self, x: Any, attention_mask: Any = None) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    inner = Pure()
    model: Any = inner
    if how == "wrapped":
        model = torch.compile(inner, backend=backend)
    elif how == "in place":
        inner.compile(backend=backend)
    with IsotropyMonitor(model, every=3) as monitor:
        if how == "afterwards":
            model = torch.compile(inner, backend=backend)
        measured = []
        for step in range(1, 10):
            x, mask = batch(step)
            model(x, attention_mask=mask)
            scores = monitor.step()
            if scores is None:
                continue
            measured.append(step)
            layers = []
            with torch.no_grad():
                for layer in inner.layers:
                    x = layer._call_impl(x) if hasattr(layer, "_call_impl") else layer(x)
                    layers.append(x.double().numpy())
            assert scores == pytest.approx(expected([layers], [mask.numpy()]), rel=1e-5)
    assert measured == [1, 3, 6, 9]
    assert len(compiled) == 1  # one graph, which knows nothing of hooks
    assert monitor.steps == 9


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["in turn", "forgotten"])
def test_compiled_code_is_compiled_after_the_last_monitor(ended: str) -> None:
    testing = pytest.importorskip("torch._dynamo.testing")
    torch._dynamo.reset()
    counter = testing.CompileCounter()
    function = torch.compile(lambda x: x + 1, backend=counter)
    first, second = (IsotropyMonitor(Model(), every=1) for _ in range(2))
    function(torch.ones(1))
    assert counter.frame_count == 0  # both are in a window
    if ended == "in turn":
        first.close()
        function(torch.ones(1))
        assert counter.frame_count == 0
        second.close()
    else:
        del first, second
        gc.collect()  # model and monitor know each other
    function(torch.ones(1))
    assert counter.frame_count == 1


class Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.all.append(str(function))
        return function(*args, **(kwargs or {}))


def operations(model: Model, monitor: IsotropyMonitor | None, seed: int) -> Count:
    x, mask = batch(seed)
    with Count() as count:
        model(x, mask).square().mean().backward()
        if monitor is not None:
            monitor.step()
    return count


def test_costs_nothing_between_windows() -> None:
    model = Model()
    plain = len(operations(model, None, 0).all)
    with IsotropyMonitor(model, every=6, window=2) as monitor:
        for step in range(1, 13):
            in_window = monitor.recording
            hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
            assert hooked == in_window == (step in (1, 2, 5, 6, 11, 12))
            count = operations(model, monitor, step)
            if not in_window:
                assert len(count.all) == plain
            else:
                assert len(count.all) > plain
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class NoWaiting(TorchDispatchMode):
    """Refuses what only the host can do with a value, which it has to wait for."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


def _refuse(scalar: Any) -> None:
    raise AssertionError("the host reads a number")


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_a_step_that_does_not_measure_waits_for_no_device(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    model = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh()).to(device)
    x, mask = (part.to(device) for part in batch(0))
    for file in (backend, frame, target):  # of a tensor without a value `concrete` says so without looking
        monkeypatch.setattr(file, "concrete", _refuse)
    before = torch.cuda.get_sync_debug_mode() if device == "cuda" else 0
    with IsotropyMonitor(model, layers="*", every=9, window=9, mask=lambda inputs, outputs: mask) as monitor:
        try:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            with NoWaiting():
                for _ in range(3):
                    model(x).square().mean().backward()
                    assert monitor.step() is None
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode(before)
        assert len(monitor._streams) == 2
        assert not monitor.failed


def test_changes_no_training() -> None:
    losses = []
    for monitored in (False, True):
        model = Model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        monitor = IsotropyMonitor(model, every=2) if monitored else None
        for seed in range(5):
            loss = (model(*batch(seed)) + torch.rand(1)).square().mean()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step()
        if monitor is not None:
            monitor.close()
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_evaluation_between_steps_does_not_count() -> None:
    model = Model()
    with IsotropyMonitor(model, every=1) as monitor:
        x, mask = batch(3)
        model(x, mask)
        seen = model.seen
        model.eval()
        with torch.no_grad():
            model(*batch(4))
        model.train()
        assert monitor.step() == pytest.approx(expected([seen], [mask.numpy()]), rel=1e-5)


def test_micro_batches_add_up() -> None:
    model = Model()
    with IsotropyMonitor(model, every=1) as monitor:
        seen, masks = [], []
        for seed, rows in ((0, 3), (1, 4), (2, 5)):
            x, mask = batch(seed, rows)
            model(x, mask).mean().backward()
            seen.append(model.seen)
            masks.append(mask.numpy())
        assert monitor.step() == pytest.approx(expected(seen, masks), rel=1e-5)


class Dropping(Model):
    """Skips layers, as LayerDrop does, and raises after one of them."""

    skipped: tuple[int, ...] = ()
    raising: int | None = None

    def forward(self, x: Any, attention_mask: Any = None) -> Any:
        self.seen = []
        for index, layer in enumerate(self.layers):
            if index not in self.skipped:
                x = layer(x)
            self.seen.append(x.detach().float().double().numpy())
            if index == self.raising:
                raise RuntimeError("out of memory")
        return x


def test_what_a_call_that_raised_left_does_not_count() -> None:
    model = Dropping()
    with IsotropyMonitor(model, every=1) as monitor:
        model.raising = 1
        with pytest.raises(RuntimeError, match="out of memory"):
            model(*batch(0))
        model.raising = None
        x, mask = batch(1)
        model(x, mask)
        assert monitor.step() == pytest.approx(expected([model.seen], [mask.numpy()]), rel=1e-5)
        assert [layer.module for layer in monitor.layers] == ["", "layers.0", "layers.1", "layers.2"]
        # Nor where no other call follows in the step.
        model(x, mask)
        seen, model.raising = model.seen, 0
        with pytest.raises(RuntimeError, match="out of memory"):
            model(*batch(2))
        assert monitor.step() == pytest.approx(expected([seen], [mask.numpy()]), rel=1e-5)


def test_a_skipped_layer_leaves_the_others_their_numbers() -> None:
    model = Dropping()
    with IsotropyMonitor(model, every=1, union=False) as monitor:
        model.skipped = (1,)
        x, mask = batch(0)
        model(x, mask)
        scores = monitor.step()
        wanted = expected([model.seen], [mask.numpy()])
        assert scores == pytest.approx({n: wanted[n] for n in scores}, rel=1e-5)
        assert [(layer.name, layer.module) for layer in monitor.layers] == [
            ("layer_00", "layers.0"), ("layer_02", "layers.2")]  # fmt: skip


def test_layers_skipped_in_a_part_of_a_window() -> None:
    model = Dropping()
    skips = [(1,), (2,), (1, 2)]
    clouds: list[list[np.ndarray]] = []
    with IsotropyMonitor(model, every=3, window=3) as monitor:
        for seed, skipped in enumerate(skips):
            model.skipped = skipped
            x, mask = batch(seed)
            model(x, mask)
            kept = [np.where(mask.numpy() * (index not in skipped), 1, 0) for index in range(LAYERS)]
            clouds.append([model.seen, kept])  # type: ignore[list-item]
            scores = monitor.step()
    # A sequence has one number in all layers, those included that did not see it: 27 in turn.
    points = [np.concatenate([seen[index] for seen, _ in clouds]) for index in range(LAYERS)]
    masks = [np.concatenate([kept[index] for _, kept in clouds]) for index in range(LAYERS)]
    wanted = {f"train/isoscore_star/layer_{i:02d}": halves([points[i]], [masks[i]]) for i in range(LAYERS)}
    assert scores == pytest.approx({"train/isoscore_star": halves(points, masks), **wanted}, rel=1e-5)
    assert [layer.group_count for layer in monitor.layers] == [27, 27, 9, 9]


def test_parts_of_a_model_with_the_batch_given_to_step() -> None:
    model = Model()
    x, mask = batch(0)
    with IsotropyMonitor(model, every=1) as monitor:
        states = []
        for layer in model.layers:
            x = layer(x)
            states.append(x.detach().double().numpy())
        scores = monitor.step({"attention_mask": mask})
    assert scores == pytest.approx(expected([states], [mask.numpy()]), rel=1e-5)


def test_independent_points_have_the_unbiased_score() -> None:
    model = nn.Sequential(nn.Linear(DIM, 4), nn.Tanh())
    points = torch.randn(40, DIM)
    with IsotropyMonitor(model, layers="1", every=1) as monitor:
        states = model(points)
        scores = monitor.step()
    assert monitor.layers[0].group_count == 0
    assert scores["train/isoscore_star/layer_00"] == pytest.approx(
        iso.isoscore_unbiased(states.detach().double().numpy(), groups=None), rel=1e-5
    )


def test_too_few_sequences_give_no_score_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    with IsotropyMonitor(model, every=1) as monitor:
        for _ in range(2):
            model(*batch(0, rows=3))
            assert monitor.step() == {}
    (line,) = caplog.messages
    assert "too few sequences" in line
    assert "layer_00 (3)" in line
    assert monitor.layers[0].score is None


@pytest.mark.parametrize("filled", [0, 1, 3])
def test_padding_alone_has_no_score(filled: int, caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    x, mask = batch(0)
    mask[filled:] = 0
    with IsotropyMonitor(model, every=1) as monitor:
        model(x, mask)
        assert monitor.step() == {}
    assert [(layer.score, layer.group_count) for layer in monitor.layers] == [(None, filled)] * (LAYERS + 1)
    assert monitor.first == {}
    assert f"layer_00 ({filled})" in caplog.text


class Given(nn.Module):
    """A layer that puts out what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward(self, first: Any, second: Any) -> Any:
        return self.layers[0](first), self.layers[1](second)


def told(clouds: list[Any], caplog: pytest.LogCaptureFixture) -> list[str]:
    model = Given()
    with caplog.at_level(logging.WARNING, "isoscore_star"), IsotropyMonitor(model, "layers.*", every=1) as monitor:
        for cloud in clouds:
            model(cloud, torch.randn(8, 40, DIM, generator=torch.Generator().manual_seed(1)))
            monitor.step()
    return caplog.messages


def cloud(scale: Any = 1.0) -> Any:
    return torch.randn(8, 40, DIM, generator=torch.Generator().manual_seed(0)) * torch.as_tensor(scale)


def test_a_fall_below_a_tenth_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(2))).Q
    flat = cloud([1.0, 0.05, 0.05, 0.05, 0.05]) @ rotation
    lines = told([cloud(), cloud([1, 1, 0.3, 0.3, 0.3]), flat, flat], caplog)
    assert len(lines) == 1
    assert lines[0].startswith("Step 3: IsoScore* fell below a tenth of its first value")
    assert "layer_00 from 1.0" in lines[0]
    assert "layer_01" not in lines[0]


def test_one_coordinate_and_few_tokens_are_told(caplog: pytest.LogCaptureFixture) -> None:
    outlier = cloud([20.0, 1.0, 1.0, 1.0, 1.0])
    lines = told([outlier, outlier], caplog)
    assert [line for line in lines if "one coordinate" in line] == lines[:1]
    assert "in coordinate 0)" in lines[0]
    caplog.clear()
    sinks = cloud()
    sinks[0, 0] += 300.0 * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    sinks[1, 0] -= 300.0
    (line,) = told([sinks], caplog)
    assert "one state in a hundred" in line
    states = sinks.reshape(-1, DIM).double().numpy()
    distances = np.sort(((states - states.mean(0)) ** 2).sum(1))[::-1]
    assert f"layer_00 ({distances[:3].sum() / distances.sum():.0%})" in line


def test_states_that_are_not_finite_are_told(caplog: pytest.LogCaptureFixture) -> None:
    broken = cloud()
    broken[0, 0, 0] = float("nan")
    lines = told([cloud(), broken, broken], caplog)
    assert lines == ["Step 2: states are not finite: layer_00"]


@pytest.mark.parametrize(("scale", "dtype"), [(1e30, "float32"), (1e-30, "float32"), (1e140, "float64")])
def test_states_of_any_size_are_finite(scale: float, dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    states = (cloud([3.0, 1.0, 1.0, 1.0, 1.0]).double() * scale).to(getattr(torch, dtype))
    model = Given()
    other = torch.randn(8, 40, DIM, generator=torch.Generator().manual_seed(1))
    with IsotropyMonitor(model, "layers.*", every=2, window=2) as monitor:
        for factor in (1.0, 1e-3):
            model(states * factor, other)
            scores = monitor.step()
    points = np.concatenate([states.double().numpy() / scale, states.double().numpy() / scale * 1e-3])
    mask = np.ones(points.shape[:2])
    assert scores is not None
    assert scores["train/isoscore_star/layer_00"] == pytest.approx(halves([points], [mask]), rel=1e-4)
    held = [((p - p.mean(0)) ** 2).sum(1) for p in points.reshape(2, -1, DIM)]
    few = sum(np.sort(part)[::-1][:3].sum() for part in held) / sum(part.sum() for part in held)
    first = monitor.layers[1]
    assert (first.finite, first.few_points_share) == (True, pytest.approx(few, rel=1e-4))
    assert caplog.messages == []


def test_few_points_are_few_of_those_that_count() -> None:
    states = torch.randn(4, 100, DIM, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, 100)
    mask[:, :25] = 1  # 100 points in 400 places
    model = Model()
    with IsotropyMonitor(model, every=1) as monitor:
        model(states, mask)
        monitor.step()
    points = model.seen[0][mask.numpy() != 0]
    distances = ((points - points.mean(0)) ** 2).sum(1)
    assert monitor.layers[1].few_points_share == pytest.approx(distances.max() / distances.sum(), rel=1e-4)


def test_a_wrong_mask_is_told_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    with IsotropyMonitor(model, every=1) as monitor:
        for _ in range(2):
            model(batch(0)[0], torch.ones(2, 3))
            assert monitor.step() is None
    (line,) = caplog.messages
    assert "The training goes on" in line
    assert monitor.failed


def test_a_mask_function_that_raises_ends_the_measurements_alone(caplog: pytest.LogCaptureFixture) -> None:
    model, calls = Model(), []

    def mask(inputs: Any, outputs: Any) -> Any:
        calls.append(1)
        return inputs["no such name"]

    with IsotropyMonitor(model, every=1, mask=mask) as monitor:
        for seed in range(3):
            model(*batch(seed))
            assert monitor.step() is None
        assert not monitor.recording
    (line,) = caplog.messages
    assert "The training goes on" in line
    assert "KeyError: 'no such name'" in line
    assert monitor.failed
    assert len(calls) == 1


def test_a_layer_that_gives_no_tensor_ends_no_training(caplog: pytest.LogCaptureFixture) -> None:
    class Words(nn.Module):
        def forward(self, x: Any) -> str:
            return "word"

    model = nn.Sequential(nn.Linear(DIM, DIM), Words())
    with IsotropyMonitor(model, layers=["0", "1"], every=1) as monitor:
        for seed in range(2):
            assert model(batch(seed)[0]) == "word"
            monitor.step()
    (line,) = caplog.messages
    assert "'1' puts out str, not a tensor" in line


def test_steps_without_a_call_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with IsotropyMonitor(Model(), every=1) as monitor:
        assert monitor.step() is None
    assert "none of the 3 layers ran in training mode" in caplog.text


def test_state_goes_on() -> None:
    model = Model()
    with IsotropyMonitor(model, every=5) as monitor:
        steps(model, monitor, 5)
        state = copy.deepcopy(monitor.state_dict())
        first = monitor.first
    with IsotropyMonitor(model, every=5) as resumed:
        resumed.load_state_dict(state)
        assert not resumed.recording
        found = steps(model, resumed, 5)
    assert [scores is not None for scores, _, _ in found] == [False] * 4 + [True]
    assert resumed.first == first


def test_copies_of_the_model_have_no_monitor() -> None:
    model = Model()
    with IsotropyMonitor(model, every=1) as monitor:
        copied = copy.deepcopy(model)
        copied(*batch(0))
        pickle.loads(pickle.dumps(model))(*batch(0))
        model(*batch(1, rows=4))
        monitor.step()
        assert monitor.layers[1].group_count == 4


def test_wrong_arguments() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"^every: expected at least 1 step; got 0$"):
        IsotropyMonitor(Model(), every=0)
    with pytest.raises(iso.InvalidTypeError, match=r"^window: expected a whole number of steps; got True$"):
        IsotropyMonitor(Model(), window=True)
    with pytest.raises(iso.InvalidValueError, match=r"^window: expected at most every=3 steps; got 4$"):
        IsotropyMonitor(Model(), every=3, window=4)
    with pytest.raises(iso.InvalidTypeError, match=r"^model: expected a torch module; got str$"):
        IsotropyMonitor("model")
    with pytest.raises(iso.InvalidValueError, match="matches no module"):
        IsotropyMonitor(Model(), layers="nothing")
    monitor = IsotropyMonitor(Model())
    monitor.close()
    with pytest.raises(iso.InvalidValueError, match="it was closed"):
        monitor.step()
