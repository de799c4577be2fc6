"""`StreamingMoments` of points in groups: the score of the two halves, against their covariances written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.validation._truth import unbiased

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from isoscore_star.backends.torch import StreamingMoments  # noqa: E402
from isoscore_star.backends.torch.backend import BACKEND  # noqa: E402

DIM = 6
SIZES = (3, 1, 4, 5, 2)
RNG = np.random.default_rng(8)
STATES = RNG.normal(size=(15, 1, DIM)) * 2 + RNG.normal(size=(15, 7, DIM)) * np.linspace(0.2, 3, DIM) + 10
MASK = RNG.random((15, 7)) > 0.4
MASK[4] = False  # a sequence without a token, which has a number all the same


def halves_of(states: np.ndarray = STATES, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    keep = np.ones(states.shape[:2], bool) if mask is None else mask
    return states[0::2][keep[0::2]], states[1::2][keep[1::2]]


def batches(array: np.ndarray, sizes: Sequence[int] = SIZES) -> list[Any]:
    return list(torch.tensor(array).split(list(sizes)))


def streamed(states: np.ndarray = STATES, mask: np.ndarray | None = None, **arguments: Any) -> StreamingMoments:
    moments = StreamingMoments(states.shape[-1], fourth_order=True)
    masks = [None] * len(SIZES) if mask is None else batches(mask)
    for batch, keep in zip(batches(states), masks, strict=True):
        moments.update(batch, keep, **arguments)
    return moments


@pytest.mark.parametrize("masked", [False, True])
def test_any_batches_give_the_score_of_the_halves(masked: bool) -> None:
    mask = MASK if masked else None
    states = STATES if mask is None else np.where(mask[..., None], STATES, np.nan)
    moments = streamed(states, mask)
    expected = reference.isoscore_halves(*halves_of(STATES, mask))
    assert float(moments.isoscore_unbiased()) == pytest.approx(expected, abs=1e-12)
    points = STATES[np.ones_like(MASK) if mask is None else mask]
    assert (moments.group_count, moments.count) == (15, len(points))
    assert float(moments.isoscore()) == pytest.approx(reference.isoscore_star(points), abs=1e-12)
    assert np.allclose(moments.mean, points.mean(0), rtol=1e-13)
    assert np.allclose(moments.cov, np.cov(points.T), rtol=0, atol=1e-12)


def test_layers_of_a_batch_in_one_update(rng: np.random.Generator) -> None:
    layers = [STATES, STATES @ rng.normal(size=(DIM, DIM)), STATES[:, :3] ** 2]
    moments, start = StreamingMoments(DIM, fourth_order=True), 0
    for size in SIZES:
        moments.update([torch.tensor(layer[start : start + size]) for layer in layers])
        start += size
    halves = zip(*map(halves_of, layers), strict=True)
    expected = reference.isoscore_halves(*(np.concatenate(half) for half in halves))
    assert float(moments.isoscore_unbiased()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["an axis", "integers", "strings", "on a device"])
def test_axes_and_labels(rng: np.random.Generator, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moments, numbers, points, first = StreamingMoments(DIM, fourth_order=True), [], [], 0
    if kind == "on a device":
        monkeypatch.setattr(BACKEND, "waits_for", lambda labels: True)
    for batch in batches(STATES):
        size = len(batch)
        own = np.arange(size)
        if kind == "an axis":
            moments.update(batch.swapaxes(0, 1), groups=1)
        else:
            order = rng.permutation(size * 7)
            labels = np.repeat(own, 7)[order]
            names: Any = {
                "integers": labels * 10 - 5,
                "strings": np.array(list("abcde"))[labels],
                "on a device": torch.tensor(labels * 3),  # not numbered on the host
            }[kind]
            moments.update(batch.reshape(-1, DIM)[order], groups=names)
        if kind == "on a device":
            own = own * 3
        numbers.append(np.repeat(first + own, 7))
        points.append(batch.reshape(-1, DIM).numpy())
        first += own[-1] + 1
    parity, rows = np.concatenate(numbers) % 2, np.concatenate(points)
    expected = reference.isoscore_halves(rows[parity == 0], rows[parity == 1])
    assert float(moments.isoscore_unbiased()) == pytest.approx(expected, abs=1e-12)
    assert moments.group_count == first


def test_merging() -> None:
    numbers = np.arange(15)
    parts = [StreamingMoments(DIM, fourth_order=True).update(batch) for batch in batches(STATES)]
    starts = np.repeat(np.cumsum((0, *SIZES[:-1])), SIZES)
    for counting_on, parity in ((False, (numbers - starts) % 2), (True, numbers % 2)):
        merged = StreamingMoments(DIM, fourth_order=True)
        for part in parts:
            merged.merge(part, counting_on=counting_on)
        halves = [STATES[parity == half].reshape(-1, DIM) for half in (0, 1)]
        assert float(merged.isoscore_unbiased()) == pytest.approx(reference.isoscore_halves(*halves), abs=1e-12)
        assert (merged.group_count, merged.count) == (15, 105)
    union = StreamingMoments(DIM).merge(merged)
    assert float(union.isoscore()) == pytest.approx(reference.isoscore_star(STATES.reshape(-1, DIM)), abs=1e-12)
    assert len(union.packed()) == 2 + 2 * DIM + DIM**2


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_packed_moments_are_restored_exactly(cut: int) -> None:
    kept, restored = (StreamingMoments(DIM, fourth_order=True) for _ in range(2))
    parts = list(zip(batches(STATES), batches(MASK), strict=True))
    for part in parts[:cut]:
        kept.update(*part)
        restored = StreamingMoments.from_packed(restored.update(*part).packed(), DIM, fourth_order=True)
        assert torch.equal(restored.packed(), kept.packed())
        assert torch.equal(restored.isoscore_unbiased(), kept.isoscore_unbiased())
    for part in parts[cut:]:
        restored.update(*part)
    expected = reference.isoscore_halves(*halves_of(STATES, MASK))
    assert float(restored.isoscore_unbiased()) == pytest.approx(expected, abs=1e-12)
    vector = restored.packed()
    assert vector[0] == restored.count == MASK.sum()
    assert len(vector) <= 2 * (DIM**2 + 3 * DIM + 5)
    with pytest.raises(iso.InvalidValueError, match="expected shape"):
        StreamingMoments.from_packed(vector, DIM)


def test_points_taken_for_independent() -> None:
    few = STATES[:6, :2]  # 12 points, of which there are 11,880 ordered quadruples
    moments = StreamingMoments(DIM, fourth_order=True).update(torch.tensor(few[:4])).update(torch.tensor(few[4:]))
    expected = unbiased(few.reshape(-1, DIM)).value
    for same in (moments, StreamingMoments(DIM, fourth_order=True).update(torch.tensor(few), groups=None)):
        assert float(same.isoscore_unbiased(groups=None)) == pytest.approx(expected, abs=1e-11)
    assert float(same.isoscore_unbiased()) == pytest.approx(expected, abs=1e-11)
    restored = StreamingMoments.from_packed(moments.packed(), DIM, fourth_order=True)
    assert float(restored.isoscore_unbiased(groups=None)) == pytest.approx(expected, abs=1e-11)
    with pytest.raises(iso.InvalidValueError, match="since update takes groups"):
        moments.isoscore_unbiased(groups=0)


def test_scores_where_there_are_none() -> None:
    def score(states: np.ndarray) -> Any:
        moments = StreamingMoments(DIM, fourth_order=True).update(torch.tensor(states))
        found = moments.isoscore_unbiased()
        restored = StreamingMoments.from_packed(moments.packed(), DIM, fourth_order=True).isoscore_unbiased()
        assert torch.equal(restored, found) or torch.isnan(restored) == torch.isnan(found)
        return found

    for states in (STATES[:0], STATES[:3], STATES[:, :0]):
        assert float(score(states)) == 0
    for half in (0, 1):
        flat = STATES.copy()
        flat[half::2] = 3.0
        assert float(score(flat)) == 0
    apart = STATES.copy()
    apart[0::2, :, :3] = 0.0
    apart[1::2, :, 3:] = 0.0
    assert torch.isnan(score(apart))
    infinite = STATES.copy()
    infinite[0, 0, 0] = np.inf
    assert torch.isnan(score(infinite))


EIGHT = STATES[:8]
MET = {False: [0, 2, 5], True: [0, 2, 5, 7]}  # sequences with a token: one in the odd half, or two


def met_alone(enough: bool) -> np.ndarray:
    mask = np.zeros((8, 7), bool)
    mask[MET[enough], 2:5] = True
    return mask


def score_of_met(enough: bool) -> float:
    return reference.isoscore_halves(*halves_of(EIGHT, met_alone(True))) if enough else 0.0


@pytest.mark.parametrize("enough", [False, True])
@pytest.mark.parametrize("kind", ["an axis", "labels", "on a device", "layers", "NumPy's mask"])
def test_sequences_without_a_token_are_no_groups(kind: str, enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    states, mask, numbers = torch.tensor(EIGHT), met_alone(enough), np.repeat(np.arange(8), 7).reshape(8, 7)
    moments = StreamingMoments(DIM, fourth_order=True)
    if kind == "layers":  # each token in a layer of its own
        parts = [mask & (np.arange(7) == place) for place in (2, 3, 4)]
        moments.update([states] * 3, [torch.tensor(part) for part in parts])
    elif kind == "NumPy's mask":
        moments.update(states, mask)
    elif kind == "an axis":
        moments.update(states.swapaxes(0, 1), torch.tensor(mask.T), groups=1)
    else:
        labels: Any = numbers + 1000  # in the same halves
        if kind == "on a device":
            monkeypatch.setattr(BACKEND, "waits_for", lambda labels: True)
            labels = torch.tensor(labels)
        moments.update(states, torch.tensor(mask), labels)
    assert float(moments.isoscore_unbiased()) == pytest.approx(score_of_met(enough), abs=1e-12)


@pytest.mark.parametrize("enough", [False, True])
@pytest.mark.parametrize("sizes", [(1,) * 8, (3, 5), (5, 0, 3)])
def test_groups_with_tokens_add_up(sizes: Sequence[int], enough: bool) -> None:
    moments, merged, packed = (StreamingMoments(DIM, fourth_order=True) for _ in range(3))
    for batch, keep in zip(batches(EIGHT, sizes), batches(met_alone(enough), sizes), strict=True):
        moments.update(batch, keep)
        merged.merge(StreamingMoments(DIM, fourth_order=True).update(batch, keep), counting_on=True)
        packed = StreamingMoments.from_packed(packed.packed(), DIM, fourth_order=True).update(batch, keep)
    for same in (moments, merged, packed):
        assert float(same.isoscore_unbiased()) == pytest.approx(score_of_met(enough), abs=1e-12)
        assert same.group_count == 8


def test_groups_in_some_updates_alone() -> None:
    states = torch.tensor(STATES)
    moments = StreamingMoments(DIM, fourth_order=True).update(states[:8]).update(states[8:].reshape(-1, DIM))
    with pytest.raises(iso.InvalidValueError, match="some updates had groups, others not: 49 of 105 points"):
        moments.isoscore_unbiased()
    expected = iso.isoscore_unbiased(STATES.reshape(-1, DIM))
    assert float(moments.isoscore_unbiased(groups=None)) == pytest.approx(expected, abs=1e-11)
    restored = StreamingMoments.from_packed(moments.packed(), DIM, fourth_order=True)
    assert torch.isnan(restored.isoscore_unbiased())


@pytest.mark.parametrize("groups", ["first", True, 2, np.zeros(3, int)])
def test_wrong_groups(groups: Any) -> None:
    moments = streamed()
    before = moments.packed()
    with pytest.raises(iso.IsoScoreError, match="groups"):
        moments.update(torch.tensor(STATES), groups=groups)
    with pytest.raises(iso.InvalidValueError, match=r"list\(X\), or groups=1"):
        moments.update(torch.zeros(2, 3, 4, DIM))
    assert torch.equal(moments.packed(), before)


@pytest.mark.parametrize("shift", [300.0, -1000.0])
def test_float32_far_from_zero(rng: np.random.Generator, shift: float) -> None:
    for dim in (DIM, 160):  # products in float64, and in float32
        states = rng.normal(size=(15, 1, dim)) * 2 + rng.normal(size=(15, 20, dim)) * np.linspace(0.2, 3, dim) + shift
        rounded = states.astype(np.float32)
        expected = reference.isoscore_halves(*halves_of(rounded.astype(np.float64)))
        assert float(streamed(rounded).isoscore_unbiased()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_any_scale(scale: float) -> None:
    moments = streamed((STATES - 10) * scale)
    expected = reference.isoscore_halves(*halves_of(STATES - 10))
    assert float(moments.isoscore_unbiased()) == pytest.approx(expected, abs=1e-12)


class _NoWaiting(TorchDispatchMode):
    """Refuse what only the host can do with a value, which it has to wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device() -> None:
    states, mask = torch.tensor(STATES).to("meta"), torch.tensor(MASK).to("meta")
    labels = torch.zeros(15, 7, dtype=torch.int64, device="meta")
    with _NoWaiting():
        moments = StreamingMoments(DIM, "meta", fourth_order=True)
        moments.update(states, mask).update([states, states], mask)
        scores = [moments.isoscore_unbiased()]
        moments.update(states, mask, labels).update(states, groups=0)
        restored = StreamingMoments.from_packed(moments.packed(), DIM, fourth_order=True)
        restored.update(states).merge(moments, counting_on=True)
        scores += [moments.isoscore_unbiased(), restored.isoscore_unbiased(), restored.isoscore()]
    assert all(score.shape == () and score.device.type == "meta" for score in scores)
