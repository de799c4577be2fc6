"""Blocks of two scans are paired only if they are the same texts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import isoscore_star as iso

DIM = 6


class Layer(NamedTuple):
    name: str
    states: Any

    def blocks(self) -> dict[str, list[iso.Moments]]:
        return {"rest": [iso.Moments().update(block) for block in np.split(self.states, 10)]}


class Scan(NamedTuple):
    layers: tuple[Layer, ...]
    provenance: dict[str, Any]
    union: Any = None
    embeddings: Any = None


def states(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(70, 9, DIM)) + rng.normal(size=(70, 1, DIM))


def scanned(x: Any, **provenance: Any) -> Scan:
    usual = {"fingerprint": "abc", "sequences": 70, "batch_size": 16, "wanted_blocks": 10, "model": "m"}
    return Scan((Layer("layer 1", x),), usual | provenance)


def test_the_same_texts() -> None:
    x = states(0)
    found = iso.compare(scanned(x, model="before"), scanned(x * np.linspace(1, 2, DIM), model="after"), paired=True)
    assert found.rows[0].pairing == "paired over 10 blocks"
    assert found.notes == ()


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({"fingerprint": "def"}, "other texts, images or batches"),
        ({"fingerprint": None}, "other texts, images or batches"),
        ({"batch_size": 8}, "batches of 16 and 8"),
        ({"wanted_blocks": 20}, "10 and 20 blocks"),
        ({"sequences": 71}, "other numbers of sequences"),
    ],
)
def test_other_texts(differs: dict[str, Any], says: str) -> None:
    x, y = states(0), states(1)
    a, b = scanned(x), scanned(y, **differs)
    found = iso.compare(a, b)
    row = found.rows[0]
    assert not row.paired
    assert row.pairing.startswith("not paired: ")
    assert says in row.pairing
    assert any("not paired" in note and says in note for note in found.notes)
    # Of two samples of their own the variances add.
    assert row.log_ratio_interval == row.unpaired_log_ratio_interval
    with pytest.raises(iso.InvalidValueError, match=f"paired: expected scans of the same texts.*{says}"):
        iso.compare(a, b, paired=True)
    assert iso.compare(a, b, paired=False).rows[0].pairing == "not paired, as asked"


def test_matrices_of_as_many_rows() -> None:
    x = states(0)
    before, after, others = (
        {"texts": "weights", "fingerprint": {"wte.weight": [file, size, [rows, DIM]]}}
        for file, size, rows in (("a.safetensors", 9, 630), ("b.safetensors", 5, 630), ("b.safetensors", 5, 640))
    )
    assert iso.compare(scanned(x, **before), scanned(x * 2, **after)).rows[0].paired
    assert not iso.compare(scanned(x, **before), scanned(x * 2, **others)).rows[0].paired
