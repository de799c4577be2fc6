"""Scores of arrays in chunks are those of the whole array, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isoscore_star as iso

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

# Merging in another order rounds otherwise: by some 1e-16 of the sums for each of a few dozen merges, and the scores
# of these points lose at most a factor of a hundred of that.
SAME = 1e-12
OF_GROUPS = ("design_effect", "independent_score")


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def numpy_score(first: np.ndarray, second: np.ndarray) -> float:
    """Compute s(A, B) from two clouds by NumPy's covariance."""
    a, b = np.cov(first.T), np.cov(second.T)
    return float((np.trace(a) * np.trace(b) / np.sum(a * b) - 1) / (len(a) - 1))


def token_states(sequences: int, tokens: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(sequences, 1, dim)) + rng.normal(size=(sequences, tokens, dim))
    return np.asarray(drawn * np.r_[4.0, 2.0, np.ones(dim - 2)] + 3)


def close(measured: iso.Measurement, expected: iso.Measurement) -> None:
    """Compare all numbers of two measurements."""
    for name in ("score", "unbiased_score", "standard_error", "effective_dimensions", *OF_GROUPS):
        ours, its = getattr(measured, name), getattr(expected, name)
        assert ours is its is None or ours == pytest.approx(its, rel=SAME, abs=SAME), name
    for name in ("count", "dim", "groups", "group_count"):
        assert getattr(measured, name) == getattr(expected, name)
    assert measured.interval == pytest.approx(expected.interval, rel=SAME)
    np.testing.assert_allclose(measured.cov, expected.cov, rtol=SAME, atol=SAME)
    assert measured.longest_points == pytest.approx(expected.longest_points, rel=1e-9)  # 1 − a share is what is lost


def test_scores_are_those_of_numpys_covariances() -> None:
    states = token_states(40, 5, 6)
    X = da.from_array(states, chunks=(7, 5, 6))
    flat = states.reshape(-1, 6)
    assert iso.isoscore(X) == pytest.approx(numpy_score(flat, flat), abs=SAME)
    halves = [states[half::2].reshape(-1, 6) for half in (0, 1)]
    assert iso.isoscore_unbiased(X) == pytest.approx(numpy_score(*halves), abs=SAME)
    target = np.diag(np.arange(1.0, 7.0))
    mixed = 0.5 * np.cov(flat.T) + 0.5 * target
    expected = (np.trace(mixed) ** 2 / np.sum(mixed * mixed) - 1) / 5
    assert iso.isoscore_star(X, target, 0.5) == pytest.approx(expected, abs=SAME)


@st.composite
def cut(draw: Any, length: int) -> tuple[int, ...]:
    """Draw sizes of chunks that add up to a length."""
    edges = draw(st.sets(st.integers(1, length - 1), max_size=6)) if length > 1 else set()
    return tuple(np.diff([0, *sorted(edges), length]).tolist())


@settings(max_examples=12)
@given(cut(23), cut(6), cut(5), cut(23), st.integers(0, 5))
def test_any_chunks_give_the_same(
    rows: tuple[int, ...], tokens: tuple[int, ...], dims: tuple[int, ...], of_mask: tuple[int, ...], seed: int
) -> None:
    states = token_states(23, 6, 5, seed)
    mask = np.random.default_rng(seed).random((23, 6)) < 0.8
    states[~mask] = np.nan
    X, M = da.from_array(states, chunks=(rows, tokens, 5)), da.from_array(mask, chunks=(of_mask, 6))
    close(iso.measure(X, mask=M), iso.measure(states, mask=mask))
    close(iso.measure(X, mask=M, groups=1), iso.measure(states, mask=mask, groups=1))
    close(iso.measure(X, mask=mask, groups=None), iso.measure(states, mask=mask, groups=None))
    if len(dims) > 1:
        with pytest.warns(da.PerformanceWarning, match="cut along its dimensions"):
            found = iso.isoscore_unbiased(da.from_array(states, chunks=(rows, tokens, dims)), mask=M)
        assert found == pytest.approx(iso.isoscore_unbiased(states, mask=mask), abs=SAME)


@settings(max_examples=8)
@given(cut(60), cut(60), st.permutations(range(60)), st.booleans())
def test_labels_number_groups_in_any_order_of_rows(
    rows: tuple[int, ...], of_labels: tuple[int, ...], order: list[int], as_words: bool
) -> None:
    points = token_states(12, 5, 4).reshape(60, 4)
    labels = np.repeat(np.arange(12) * 7, 5)
    given_labels = np.char.add("document ", labels.astype(str)) if as_words else labels
    expected = iso.measure(points, groups=given_labels)
    X = da.from_array(points[order], chunks=(rows, 4))
    close(iso.measure(X, groups=da.from_array(given_labels[order], chunks=(of_labels,))), expected)
    close(iso.measure(X, groups=given_labels[order]), expected)


def test_a_union_of_layers_has_the_same_groups() -> None:
    layers = [token_states(20, 4, 5, seed) for seed in (1, 2)]
    X = [da.from_array(layers[0], chunks=(6, 4, 5)), da.from_array(layers[1], chunks=(20, 1, 5))]
    mask = np.random.default_rng(0).random((20, 4)) < 0.7
    close(iso.measure(X, mask=mask), iso.measure(layers, mask=mask))
    assert iso.isoscore(X, mask=[None, mask]) == pytest.approx(iso.isoscore(layers, mask=[None, mask]), abs=SAME)


def test_chunks_of_unknown_sizes() -> None:
    points = token_states(50, 4, 5).reshape(200, 5)
    keep = points[:, 0] > 0
    whole = da.from_array(points, chunks=(30, 5))
    X, labels = whole[whole[:, 0] > 0], da.from_array(np.arange(200) // 4, chunks=30)[whole[:, 0] > 0]
    assert np.isnan(X.shape[0])
    close(iso.measure(X), iso.measure(points[keep]))
    close(iso.measure(X, groups=labels), iso.measure(points[keep], groups=(np.arange(200) // 4)[keep]))
    close(
        iso.measure(X, groups=(np.arange(200) // 4)[keep]),
        iso.measure(points[keep], groups=(np.arange(200) // 4)[keep]),
    )
    assert np.isnan(X.shape[0])  # the user's array is as it was


def test_empty_chunks_and_chunks_without_a_point_that_counts() -> None:
    points = token_states(20, 4, 5)
    mask = np.ones((20, 4))
    mask[5:10] = 0
    X = da.from_array(points, chunks=((5, 0, 5, 10), 4, 5))
    close(iso.measure(X, mask=mask), iso.measure(points, mask=mask))


def test_the_sample_for_the_error_hangs_on_the_number_of_each_row_alone() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 3)) * [3.0, 1.0, 1.0]
    errors = [iso.measure(da.from_array(points, chunks=(rows, 3))).standard_error for rows in (20_000, 3333, 700)]
    assert errors[1:] == pytest.approx([errors[0]] * 2, rel=SAME)
    # An error from 4,096 of 20,000 points errs by about √(κ/4096), κ some 10 for a score of order four: 5 %.
    assert errors[0] == pytest.approx(iso.measure(points).standard_error, rel=0.2)
    stacked = da.from_array(points.reshape(200, 100, 3), chunks=(33, 41, 3))
    assert iso.measure(stacked, groups=None).standard_error == pytest.approx(errors[0], rel=SAME)


def test_the_generator_is_splitmix64() -> None:
    from isoscore_star.distributed_arrays._chunk import uniform

    # The first outputs from the state 0, as the authors' reference program prints them, cut to 53 bits.
    printed = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert uniform(np.arange(3, dtype=np.uint64)).tolist() == [(number >> 11) * 2.0**-53 for number in printed]


def test_chunks_of_torch() -> None:
    torch = pytest.importorskip("torch")
    states = token_states(30, 4, 5)
    X = da.from_array(states, chunks=(7, 4, 5)).map_blocks(
        torch.from_numpy, dtype=states.dtype, meta=np.empty((0, 0, 0))
    )
    close(iso.measure(X), iso.measure(states))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers(scheduler: str) -> None:
    states = token_states(30, 4, 5)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        close(iso.measure(da.from_array(states, chunks=(7, 4, 5))), iso.measure(states))


def test_tasks_have_names_for_the_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    from dask.callbacks import Callback
    from dask.utils import key_split

    seen: set[str] = set()
    with Callback(pretask=lambda key, graph, state: seen.add(key_split(key))):
        iso.measure(da.from_array(token_states(30, 4, 5), chunks=(5, 4, 5)), groups=np.arange(120).reshape(30, 4) % 20)
    assert {"isoscore-labels", "isoscore-moments", "isoscore-merge", "isoscore-errors"} <= seen


def test_a_rechunk_says_what_moves() -> None:
    X = da.zeros((1000, 8), chunks=(100, (6, 2))) + da.from_array(np.random.default_rng(0).normal(size=(1000, 8)))
    with pytest.warns(
        da.PerformanceWarning, match=r"at least 15\.6 KiB of 62\.5 KiB move"
    ):  # a quarter of 64,000 bytes
        iso.isoscore(X)


ERRORS = {
    "NaN in a chunk": (
        lambda X: {"X": da.where(da.arange(40, chunks=7)[:, None, None] == 8, np.nan, X)},
        iso.InvalidValueError,
        r"X, chunk \(1, 0\) \(from row 7 on\): .* finite; got NaN or inf in 4 points, the first at index \(8, 0\)",
    ),
    "a mask of other values": (
        lambda X: {"X": X, "mask": da.full((40, 4), 2, chunks=5)},
        iso.InvalidValueError,
        "mask: expected only zeros and ones",
    ),
    "a mask of another shape": (
        lambda X: {"X": X, "mask": da.ones((40, 3))},
        iso.InvalidValueError,
        r"mask: expected shape \(40, 4\)",
    ),
    "labels of another shape": (
        lambda X: {"X": X, "groups": np.zeros(40)},
        iso.InvalidValueError,
        r"groups: expected shape \(40, 4\)",
    ),
    "labels that are missing": (
        lambda X: {"X": X, "groups": np.full((40, 4), np.nan)},
        iso.InvalidTypeError,
        r"groups, chunk \d: expected labels, integers or strings",
    ),
    "four axes": (lambda X: {"X": X[None]}, iso.InvalidValueError, '"auto" reads arrays of three axes'),
    "an axis too far": (lambda X: {"X": X, "groups": 2}, iso.InvalidValueError, "groups: expected an axis of X"),
    "a word": (lambda X: {"X": X, "groups": "sentences"}, iso.InvalidValueError, "groups: expected"),
    "one dimension": (lambda X: {"X": X[..., :1]}, iso.InvalidValueError, "at least 2 dimensions"),
    "complex": (lambda X: {"X": X + 1j}, iso.InvalidTypeError, "dtype complex128"),
    "a mixture": (lambda X: {"X": [X, np.ones((3, 5))]}, iso.InvalidTypeError, r"X\[1\]: the clouds of one union"),
    "widths that differ": (lambda X: {"X": [X, X[..., :3]]}, iso.InvalidValueError, "same number of dimensions"),
    "identical points": (lambda X: {"X": X * 0}, iso.DegenerateDataError, "identical"),
    "no point": (lambda X: {"X": X[:0]}, iso.DegenerateDataError, "points"),
}


@pytest.mark.filterwarnings("ignore::dask.array.PerformanceWarning")
@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    arguments, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        iso.measure(**arguments(da.from_array(token_states(40, 4, 5), chunks=(7, 4, 5))))


def test_errors_of_other_arguments() -> None:
    X = da.from_array(token_states(40, 4, 5), chunks=(7, 4, 5))
    with pytest.raises(iso.InvalidValueError, match="across: Dask knows"):
        iso.isoscore(X, across="world")
    with pytest.raises(iso.InvalidTypeError, match="a loss is of a batch in memory"):
        iso.istar_loss(X, estimator="unbiased")
    with pytest.raises(iso.InvalidValueError, match="zeta"):
        iso.isoscore_star(X, zeta=0.5)
    with pytest.raises(iso.InvalidTypeError, match="no array of a known framework"):
        iso.isoscore(dask.delayed(np.ones)((4, 3)))
