"""Moments on a device are those on the host, and all of them go into a file and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isoscore_star import Measurement
from isoscore_star.scanning._accumulated import Accumulated
from isoscore_star.scanning._batches import Batch, Layer, Tokens

torch = pytest.importorskip("torch")


def batches(count: int, *, as_tensors: bool, dim: int = 24) -> list[Batch]:
    rng = np.random.default_rng(0)
    found, first = [], 0
    for _ in range(count):
        rows = int(rng.integers(3, 6))
        lengths = rng.integers(1, 9, rows)
        mask = np.arange(8) < lengths[:, None]
        special = (np.arange(8) == 0) & (rng.random((rows, 1)) < 0.5)
        tokens = Tokens(mask, special, lambda row, place: f"{row}:{place}")
        states = rng.normal(size=(2, rows, 8, dim)).astype(np.float32) + 3
        layers: list[Any] = [torch.as_tensor(of) if as_tensors else of for of in states]
        found.append(Batch(first, rows, [Layer(f"layer {n}", of, tokens) for n, of in enumerate(layers, 1)]))
        first += rows
    return found


def accumulated(device: Any = None, *, stop: int = 30) -> Accumulated:
    own = Accumulated(9, device)
    for number, batch in enumerate(batches(30, as_tensors=device is not None)[:stop]):
        own.take(number, batch)
    return own


def test_on_a_device() -> None:
    on_host = accumulated().settle()
    on_device = accumulated(torch.device("cpu"))
    half_way = accumulated(torch.device("cpu"), stop=17)
    restored = Accumulated.from_arrays(half_way.to_arrays(), 9, half_way.names, torch.device("cpu"))
    for number, batch in enumerate(batches(30, as_tensors=True)):
        if number >= 17:
            restored.take(number, batch)
    before, after = on_device.to_arrays(), restored.to_arrays()
    assert set(before) == set(after)
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)
    on_device.settle()
    for number, block in on_host.blocks.items():
        for name, layer in block.items():
            other = on_device.blocks[number][name]
            assert layer.farthest.words == other.farthest.words
            assert set(layer.moments()) == set(other.moments())
            for part, moments in layer.moments().items():
                theirs = other.moments()[part]
                assert (theirs.count, theirs.group_count) == (moments.count, moments.group_count)
                assert np.allclose(theirs.mean, moments.mean, rtol=1e-6)
    rest = [
        Measurement.from_blocks([block["layer 1"].moments()["rest"] for block in of.blocks.values()])
        for of in (on_host, on_device)
    ]
    # Products of float32 states, summed in another order: 2⁻²⁴ of each, whatever their number.
    assert rest[0].unbiased_score == pytest.approx(rest[1].unbiased_score, rel=1e-5)


def test_tokens_are_split_into_disjoint_parts() -> None:
    mask = np.array([[1, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)  # the second one padded on the left
    special = np.array([[1, 0, 0, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
    parts = Tokens(mask, special).parts
    placed = {}
    for name, (places, chosen) in parts.items():
        own = np.zeros_like(mask)
        for row in range(3):
            columns = np.arange(5) if places is None else places[row]
            own[row, columns[chosen[row]]] = True
        placed[name] = own
    assert np.array_equal(sum(own.astype(int) for own in placed.values()), mask)
    assert np.argwhere(placed["first special"]).tolist() == [[0, 0]]
    assert np.argwhere(placed["first"]).tolist() == [[1, 2]]
    assert np.argwhere(placed["special"]).tolist() == [[0, 3], [1, 4]]
    assert np.argwhere(placed["rest"]).tolist() == [[0, 1], [0, 2], [1, 3]]
