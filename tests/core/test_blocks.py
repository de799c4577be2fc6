"""Standard errors by leaving out blocks, and moments as arrays, against leaving out and going on."""

from __future__ import annotations

import math

import numpy as np
import pytest

import isoscore_star as iso


def blocks_of(arrays: list[np.ndarray]) -> list[iso.Moments]:
    return [iso.Moments().update(array) for array in arrays]


def log_ratio(arrays: list[np.ndarray]) -> float:
    score = iso.isoscore_unbiased(np.concatenate(arrays))
    return math.log(1 + (arrays[0].shape[-1] - 1) * score)


@pytest.mark.parametrize("shape", [(4, 6, 5), (12, 5)], ids=["sequences", "independent points"])
def test_equal_blocks_are_the_usual_jackknife(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    arrays = [rng.normal(size=shape) * np.linspace(0.5, 2, 5) for _ in range(10)]
    left_out = np.array([log_ratio(arrays[:r] + arrays[r + 1 :]) for r in range(10)])
    error = math.sqrt(9 / 10 * np.sum((left_out - left_out.mean()) ** 2))
    measured = iso.Measurement.from_blocks(blocks_of(arrays))
    assert measured.unbiased_score == pytest.approx(iso.isoscore_unbiased(np.concatenate(arrays)), abs=1e-12)
    assert measured.standard_error == pytest.approx(error * math.exp(log_ratio(arrays)) / 4, rel=1e-9)
    assert measured.group_count == (40 if len(shape) == 3 else None)


def test_blocks_of_odd_and_unequal_size(rng: np.random.Generator) -> None:
    sizes = [3, 5, 4, 3, 7, 5, 3, 4, 5]
    arrays = [rng.normal(size=(size, 6, 5)) * np.linspace(0.5, 2, 5) for size in sizes]
    odd = np.cumsum(np.array(sizes) % 2)
    turned = [bool(size % 2 and before % 2 == 0) for size, before in zip(sizes, odd, strict=True)]
    assert turned == [False, True, False, False, True, False, True, False, False]  # every second odd one
    halves = [(a[1::2], a[0::2]) if turn else (a[0::2], a[1::2]) for a, turn in zip(arrays, turned, strict=True)]

    def ratio(kept: list) -> float:
        """Return log PR with each sequence in its half, whatever is left out."""
        first, second = (np.cov(np.concatenate([pair[half] for pair in kept]).reshape(-1, 5).T) for half in (0, 1))
        return math.log(np.trace(first) * np.trace(second) / np.sum(first * second))

    own, h = ratio(halves), sum(sizes) / np.array(sizes)
    left_out = np.array([ratio(halves[:r] + halves[r + 1 :]) for r in range(9)])
    pseudo = h * own - (h - 1) * left_out
    centre = 9 * own - np.sum((1 - 1 / h) * left_out)
    error = math.sqrt(np.mean((pseudo - centre) ** 2 / (h - 1)))
    measured = iso.Measurement.from_blocks(blocks_of(arrays))
    assert measured.group_count == sum(sizes)
    assert measured.unbiased_score == pytest.approx((math.exp(own) - 1) / 4, abs=1e-12)
    assert measured.standard_error == pytest.approx(error * math.exp(own) / 4, rel=1e-9)


def test_blocks_of_one_sequence_fill_both_halves(rng: np.random.Generator) -> None:
    states = rng.normal(size=(24, 10, 4))
    measured = iso.Measurement.from_blocks(iso.Moments().update(one[None]) for one in states)
    assert measured.unbiased_score == pytest.approx(iso.isoscore_unbiased(states), abs=1e-12)
    assert measured.group_count == 24
    assert measured.standard_error is not None


@pytest.mark.parametrize("longest", [np.full((10, 5), np.nan), np.zeros((10, 4)), np.zeros(5)])
def test_wrong_longest_points_are_refused(rng: np.random.Generator, longest: np.ndarray) -> None:
    blocks = blocks_of([rng.normal(size=(4, 6, 5)) for _ in range(8)])
    with pytest.raises(iso.InvalidValueError, match="longest"):
        iso.Measurement.from_blocks(blocks, longest=longest)


def test_few_blocks_have_no_error(rng: np.random.Generator) -> None:
    measured = iso.Measurement.from_blocks(blocks_of([rng.normal(size=(4, 6, 5)) for _ in range(5)]))
    assert measured.standard_error is None
    assert measured.interval is None
    with pytest.raises(iso.InvalidValueError, match="at least one block"):
        iso.Measurement.from_blocks([iso.Moments()])


@pytest.mark.slow
@pytest.mark.parametrize("heavy", [False, True])
def test_the_interval_covers(rng: np.random.Generator, heavy: bool) -> None:
    dim, reps, hits, widths = 8, 400, 0, []
    between, within = 1 / np.sqrt(np.arange(1, dim + 1)), np.ones(dim)
    variances = between**2 + within**2
    truth = (variances.sum() ** 2 / np.sum(variances**2) - 1) / (dim - 1)
    for _ in range(reps):
        tokens = rng.normal(size=(160, 1, dim)) * between + rng.normal(size=(160, 6, dim)) * within
        if heavy:
            tokens *= np.sqrt(3 / rng.chisquare(5, size=(160, 1, 1)))
        interval = iso.Measurement.from_blocks(blocks_of([tokens[r::20] for r in range(20)])).interval
        assert interval is not None
        hits += interval[0] <= truth <= interval[1]
        widths.append(interval[1] - interval[0])
    # Of 95 %, 400 draws show it to ±1.1 %; four times that, and what heavy tails take from a Student t.
    assert hits / reps > 0.9
    assert np.median(widths) < truth / 2  # no interval without bounds


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_go_on_to_the_bit(rng: np.random.Generator, dtype: type) -> None:
    batches = [rng.normal(size=(3, size, 150)).astype(dtype) + 4 for size in (9, 30, 2, 70, 5, 1)]
    straight = iso.Moments()
    for batch in batches:
        straight.update(batch)
    for stop in range(len(batches)):
        started, rest = iso.Moments(), batches[stop:]
        for batch in batches[:stop]:
            started.update(batch)
        again = iso.Moments.from_arrays({name: array.copy() for name, array in started.to_arrays().items()})
        for batch in rest:
            again.update(batch)
        ours, its = straight.to_arrays(), again.to_arrays()
        assert ours.keys() == its.keys()
        assert all(np.array_equal(ours[name], its[name]) and ours[name].dtype == its[name].dtype for name in ours)


def test_damaged_arrays_are_refused(rng: np.random.Generator) -> None:
    arrays = iso.Moments().update(rng.normal(size=(30, 4))).to_arrays()
    for name, damaged in (
        ("independent.scatter", np.zeros((3, 4))),
        ("independent.mean", None),
        ("met", np.zeros(3)),
        ("independent.offset", np.full(4, np.nan)),
        ("independent.anchor", np.array(["a"] * 4)),
        ("independent.count", np.array(-30)),
        ("independent.count", np.array(30.5)),
        ("independent.unit", np.array(0.0)),
        ("independent.scatter", -np.eye(4)),
        ("independent.third", [[1.0], [2.0, 3.0]]),
        ("even.dim", np.array(5)),
    ):
        changed = dict(arrays)
        if damaged is None:
            del changed["independent.unit"]
        else:
            changed[name] = damaged
        with pytest.raises(iso.InvalidValueError, match="arrays"):
            iso.Moments.from_arrays(changed)
    with pytest.raises(iso.InvalidTypeError, match="mapping"):
        iso.Moments.from_arrays([])  # type: ignore[arg-type]
