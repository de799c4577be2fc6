"""Layers by name and by place, what cannot be compared, and what is said of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso


def layers(rng: np.random.Generator, count: int = 3) -> list[np.ndarray]:
    return [rng.normal(size=(70, 4, 6)) * np.geomspace(1 + i, 1, 6) for i in range(count)]


def test_by_name(rng: np.random.Generator) -> None:
    ours = dict(zip("abc", layers(rng), strict=True))
    its = {"c": ours["c"] * [5, 1, 1, 1, 1, 1], "x": ours["a"], "a": ours["a"]}
    found = iso.compare(ours, its)
    assert [row.name for row in found.rows] == ["a", "c"]
    assert [row.differs for row in found.rows] == [False, True]
    assert found.rows[1].difference == iso.compare(ours["c"], its["c"]).rows[0].difference
    assert found.notes == ("only A has b", "only B has x")
    assert found.sentences[0].startswith("B's score is lower in 1, not clearly different in 1 of 2 layers")
    assert "Most in c" in found.sentences[1]


def test_by_place_with_masks_of_layers(rng: np.random.Generator) -> None:
    ours = layers(rng)
    masks = [rng.random((70, 4)) > 0.2 for _ in ours]
    for mask in masks:
        mask[:, 0] = True
    found = iso.compare(ours, [x * 2 for x in ours], mask_a=masks, mask_b=dict(zip("012", masks, strict=True)))
    assert [row.name for row in found.rows] == ["0", "1", "2"]
    for row, x, mask in zip(found.rows, ours, masks, strict=True):
        assert row.a.score == pytest.approx(iso.isoscore(x, mask=mask), abs=1e-12)
        assert (row.differs, row.a.count) == (False, mask.sum())
    named = iso.compare(ours, dict(zip("abc", ours, strict=True)))
    assert [row.name for row in named.rows] == ["a", "b", "c"]


@dataclass
class ScannedLayer:
    name: str
    parts: dict[str, list[iso.Moments]]

    def blocks(self) -> dict[str, list[iso.Moments]]:
        return self.parts


@dataclass
class Scan:
    layers: tuple[ScannedLayer, ...]
    union: Any = None
    embeddings: Any = None


def scanned(x: np.ndarray) -> dict[str, list[iso.Moments]]:
    """Keep first tokens apart, of the same sequences: ten blocks of seven."""
    parts = {"first tokens": x[:, :1], "other tokens": x[:, 1:]}
    return {name: [iso.Moments().update(block) for block in np.split(part, 10)] for name, part in parts.items()}


def test_scans(rng: np.random.Generator) -> None:
    ours = layers(rng, 2)
    its = [x * np.linspace(1, 2, 6) for x in ours]
    a, b = (Scan(tuple(ScannedLayer(f"layer {i}", scanned(x)) for i, x in enumerate(of))) for of in (ours, its))
    found = iso.compare(a, b)
    assert [row.name for row in found.rows] == ["layer 0", "layer 1"]
    for row, x, y in zip(found.rows, ours, its, strict=True):
        whole = [[iso.Moments().update(block) for block in np.split(z, 10)] for z in (x, y)]
        expected = iso.compare(*whole).rows[0]
        assert (row.log_ratio, row.log_ratio_error) == pytest.approx((expected.log_ratio, expected.log_ratio_error))
        assert row.a.score == pytest.approx(iso.isoscore(x), abs=1e-12)
        assert (row.paired, row.pairing) == (True, "paired over 10 blocks")


def test_other_frameworks(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = layers(rng)[2]
    ours = iso.compare(torch.from_numpy(x), torch.from_numpy(x * np.arange(1, 7)).requires_grad_()).rows[0]
    assert ours.difference == iso.compare(x, x * np.arange(1, 7)).rows[0].difference
    labels = torch.from_numpy(np.repeat(np.arange(70), 4))
    flat = iso.compare(torch.from_numpy(x.reshape(-1, 6)), x.reshape(-1, 6) * np.arange(1, 7), groups=labels).rows[0]
    assert flat.pairing == "paired over 70 groups"
    assert flat.interval == pytest.approx(ours.interval, rel=1e-9)


BAD: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "constant": (np.ones((9, 3)), np.eye(9)[:, :3], {}, "A: all 9 points are identical"),
    "constant b": (np.eye(9)[:, :3], np.ones((9, 3)), {}, "B: all 9 points are identical"),
    "one point": (np.eye(9)[:, :3], np.ones((1, 3)), {}, "2 points"),
    "NaN": (np.eye(9)[:, :3], np.full((9, 3), np.nan), {}, "b: .*NaN"),
    "a vector": (np.eye(9)[:, :3], np.ones(3), {}, "b: expected points as rows"),
    "counts": (np.eye(9)[:, :3], np.eye(8)[:, :3], {"paired": True}, "paired: .*9 and 8 points"),
    "groups": (np.eye(8).reshape(4, 2, 8), np.eye(6)[:, :6].reshape(3, 2, 6), {"paired": True}, "paired: .*4 and 3"),
    "kinds": (np.eye(8).reshape(4, 2, 8), np.eye(8), {"paired": True}, "paired: .*axis 0; independent points"),
    "paired": (np.eye(9)[:, :3], np.eye(9)[:, :3], {"paired": "yes"}, 'paired: expected "auto"'),
    "directions": (np.eye(9)[:, :3], np.eye(9)[:, :3], {"directions": 0}, "directions: expected an integer"),
    "no layer": ({}, {}, {}, "a: expected at least one layer"),
    "names": ({"x": np.eye(9)}, {"y": np.eye(9)}, {}, "A has x, B y"),
    "places": ([np.eye(9)], [np.eye(9)] * 2, {}, "got 1 and 2"),
    "one and layers": (np.eye(9), [np.eye(9)] * 2, {}, "one is a single cloud"),
    "mask by layer": ([np.eye(9)] * 2, [np.eye(9)] * 2, {"mask_a": {"0": np.ones(9)}}, "mask_a: .*none for '1'"),
    "mask of moments": (iso.Moments().update(np.eye(9)), np.eye(9), {"mask_a": np.ones(9)}, "a: expected no mask"),
    "sums": (iso.Moments().update(np.eye(9)), np.eye(9), {"paired": True}, "paired: .*nothing can be left out"),
    "layer": ({"l": np.eye(9)}, {"l": np.ones((9, 9))}, {}, "l: B: all 9 points are identical"),
}


@pytest.mark.parametrize(("a", "b", "options", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_compared(a: Any, b: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((iso.InvalidValueError, iso.InvalidTypeError), match=message):
        iso.compare(a, b, **options)


def plain(value: Any) -> list[Any]:
    """Return all numbers in nested dicts and lists."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in plain(part)]
    if isinstance(value, list):
        return [number for part in value for number in plain(part)]
    return [value]


@pytest.mark.parametrize(
    "shape", [(2, 3), (3, 3), (4, 2), (5, 9), (6, 400), (3, 2, 4), (4, 1, 4), (5, 2, 4), (7, 1, 2)]
)
def test_few_points_give_no_nan(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    a, b = rng.normal(size=shape), rng.normal(size=shape)
    found = iso.compare(a, b)
    numbers = plain(found.to_dict())
    assert all(math.isfinite(number) for number in numbers if isinstance(number, float))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    row = found.rows[0]
    if row.interval is None:
        assert any("no interval" in text or "no unbiased score" in text for text in row.warnings)
        assert row.differs is None
        assert "not known" in found.sentences[0]


def test_groups_that_only_one_has_points_of(rng: np.random.Generator) -> None:
    a = rng.normal(size=(70, 4, 6))
    mask = np.ones((70, 4))
    mask[3] = 0
    mask[69] = 0
    row = iso.compare(a, a * np.arange(1, 7), mask_b=mask).rows[0]
    assert (row.paired, row.pairing) == (True, "paired over 70 sequences")
    assert (row.a.group_count, row.b.group_count) == (70, 68)
    assert row.interval is not None


def test_few_groups_are_warned_of(rng: np.random.Generator) -> None:
    few, enough = (rng.normal(size=(count, 4, 6)) for count in (20, 70))
    assert any("difference is no 95 % interval" in text for text in iso.compare(few, few * np.arange(1, 7)).warnings)
    assert not any("95 % interval" in text for text in iso.compare(enough, enough * np.arange(1, 7)).warnings)


@pytest.mark.parametrize("factor", [1e-200, 1e-30, 1e30, 1e150])
def test_units(rng: np.random.Generator, factor: float) -> None:
    a = layers(rng)[1]
    b = a * np.linspace(1, 2, 6)
    row, plain_row = iso.compare(a * factor, b).rows[0], iso.compare(a, b).rows[0]
    assert row.interval == pytest.approx(plain_row.interval, rel=1e-9)
    assert row.cka == pytest.approx(plain_row.cka, rel=1e-9)


def test_words_follow_the_interval(rng: np.random.Generator) -> None:
    a = rng.normal(size=(2000, 8))
    fewer = iso.compare(a, a * [3, 1, 1, 1, 1, 1, 1, 1])
    more = iso.compare(a * [3, 1, 1, 1, 1, 1, 1, 1], a)
    unclear = iso.compare(a[:1000], a[1000:] * [1.02, 1, 1, 1, 1, 1, 1, 1], paired=False)
    low, high = fewer.rows[0].ratio_interval or (0, 0)
    text = fewer.sentences[0]
    assert text.startswith(f"B uses {100 - 100 * fewer.rows[0].ratio:.0f} % fewer dimensions than A")
    assert f"(95 %: {100 - 100 * high:.0f} to {100 - 100 * low:.0f} %), paired over 2,000 points" in text
    assert "times as many dimensions as A" in more.sentences[0]
    assert unclear.sentences[0].startswith("No difference between A and B is clear of chance")
    assert (fewer.rows[0].differs, more.rows[0].differs, unclear.rows[0].differs) == (True, True, False)
