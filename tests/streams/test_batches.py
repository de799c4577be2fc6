"""Points that come in batches: the scores of all of them, and an error by blocks, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.streams import BatchedCloud, _batched, _blocks

# The same numbers are summed in another order, some thousand terms in float64; scores lie in [0, 1].
TOLERANCE = 1e-12


def points(rows: int = 600, dim: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)) * np.r_[4.0, np.ones(dim - 1)] + 3


def states(sequences: int = 151, tokens: int = 5, dim: int = 6) -> np.ndarray:
    rng = np.random.default_rng(sequences)
    return rng.normal(size=(sequences, 1, dim)) + rng.normal(size=(sequences, tokens, dim)) * np.linspace(1, 3, dim)


def cut(X: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (X[start : start + size] for start in range(0, len(X), size))


def has_same_scores(found: iso.Measurement, wanted: iso.Measurement, tolerance: float = TOLERANCE) -> None:
    assert (found.count, found.dim, found.group_count) == (wanted.count, wanted.dim, wanted.group_count)
    for name in ("score", "unbiased_score", "independent_score"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=tolerance)
    np.testing.assert_allclose(found.cov, wanted.cov, rtol=0, atol=tolerance * np.abs(wanted.cov).max())
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=0, atol=tolerance * np.abs(wanted.mean).max())


@pytest.mark.parametrize("size", [1, 7, 64, 599, 600])
def test_any_cut_of_independent_points_is_the_whole(size: int) -> None:
    X = points()
    has_same_scores(iso.measure(cut(X, size)), iso.measure(X))


@pytest.mark.parametrize("size", [1, 7, 64, 151])
def test_any_cut_of_sequences_has_the_halves_of_the_whole(size: int) -> None:
    X = states()
    found = iso.measure(cut(X, size))
    has_same_scores(found, iso.measure(X))
    assert found.groups == "axis 0"


def test_the_scores_are_those_of_the_formulas() -> None:
    X = states()
    flat = X.reshape(-1, X.shape[2])
    eigenvalues = np.linalg.eigvalsh(np.cov(flat.T))
    ratio = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    a, b = (np.cov(X[half::2].reshape(-1, X.shape[2]).T) for half in (0, 1))
    halves = a.trace() * b.trace() / (a * b).sum()
    found = iso.measure(cut(X, 10))
    assert found.score == pytest.approx((ratio - 1) / (X.shape[2] - 1), abs=TOLERANCE)
    assert found.unbiased_score == pytest.approx((halves - 1) / (X.shape[2] - 1), abs=TOLERANCE)


@pytest.mark.parametrize("make", [points, states])
@pytest.mark.parametrize("size", [30, 10**6])
def test_the_error_by_blocks_is_about_the_exact_one(make: Callable[[int], np.ndarray], size: int) -> None:
    X = make(2000)
    found, exact = iso.measure(cut(X, size)), iso.measure(X)
    # A variance of 20 terms is known to √(2/19) = 32 %, its root to 16 %: a factor of 2 is more than four times that.
    assert exact.standard_error is not None
    assert found.standard_error == pytest.approx(exact.standard_error, rel=0.7)
    assert found.warnings == exact.warnings
    assert found.interval is not None
    assert found.longest_points is not None


def test_masks_labels_and_layers_come_with_their_batch() -> None:
    X, Y = states(), states(151, 5) ** 2
    mask = np.random.default_rng(0).random(X.shape[:2]) < 0.8
    batches = ({"X": [x, y], "mask": m} for x, y, m in zip(cut(X, 9), cut(Y, 9), cut(mask, 9), strict=True))
    has_same_scores(iso.measure(batches), iso.measure([X, Y], mask=mask))
    flat, labels = points(), np.arange(600) // 4
    batches = ({"X": x, "groups": own} for x, own in zip(cut(flat, 40), cut(labels, 40), strict=True))
    has_same_scores(iso.measure(batches), iso.measure(flat, groups=labels))


def test_vectors_and_lists_of_numbers_are_rows() -> None:
    X = points(1500)
    for rows in (iter(X), (list(x) for x in X), map(tuple, X.tolist()), iter(X.tolist())):
        has_same_scores(iso.measure(rows), iso.measure(X))
    has_same_scores(iso.measure(X.tolist()), iso.measure(X))
    has_same_scores(iso.measure(states().tolist()), iso.measure(states()))
    has_same_scores(iso.measure(part.tolist() for part in cut(X, 100)), iso.measure(X))


def test_shrinkage_and_independence() -> None:
    X, target = points(), np.diag(np.arange(1.0, 7.0))
    assert iso.measure(cut(X, 50), target, 0.3).score == pytest.approx(iso.measure(X, target, 0.3).score, abs=TOLERANCE)
    tokens = states(400).reshape(-1, 6)
    assert iso.measure(cut(tokens, 50)).warnings == iso.measure(tokens).warnings
    assert any("--groups" in text or "groups" in text for text in iso.measure(cut(tokens, 50)).warnings)
    assert iso.measure(cut(states(), 9), groups=None).group_count is None


def test_moments_take_a_stream() -> None:
    X = states()
    moments = iso.Moments().update(cut(X, 7))
    assert moments.isoscore_unbiased() == pytest.approx(iso.isoscore_unbiased(X), abs=TOLERANCE)
    assert iso.Moments().update(points().tolist()).count == 600
    with pytest.raises(iso.InvalidValueError, match=r"mask: expected none for an iterable of batches. Give mappings"):
        moments.update(cut(X, 7), mask=np.ones((151, 5)))


@pytest.mark.parametrize("wrap", ["loader", "lists"])
def test_a_data_loader_is_a_stream(wrap: str) -> None:
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("torch.utils.data")
    X = points()
    dataset = list(torch.tensor(X)) if wrap == "loader" else data.TensorDataset(torch.tensor(X))
    loader = data.DataLoader(dataset, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(0))
    has_same_scores(iso.measure(loader), iso.measure(X))


def test_labels_beside_the_points_are_refused() -> None:
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("torch.utils.data")
    loader = data.DataLoader(data.TensorDataset(torch.tensor(points()), torch.zeros(600)), batch_size=32)
    with pytest.raises(iso.InvalidValueError, match=r"X, batch 0 .*X\[1\]: expected points as rows"):
        iso.measure(loader)


def test_tensors_on_an_accelerator_are_summed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    for module in (_blocks, _batched):  # the CPU in the place of an accelerator
        monkeypatch.setattr(module, "is_on_device", lambda cloud: cloud.backend.name == "torch")
    for X in (states(), states().reshape(-1, 6)):
        found, wanted = iso.measure(torch.tensor(part) for part in cut(X, 7)), iso.measure(X)
        has_same_scores(found, wanted)
        assert found.standard_error == pytest.approx(wanted.standard_error, rel=0.7)
        assert found.longest_points is not None
        assert wanted.longest_points is not None
        # The candidates are kept in float32, whose rounding is 6e-8.
        assert found.longest_points.trace_share == pytest.approx(wanted.longest_points.trace_share, rel=1e-5)
    masks = states()[..., 0] > 0
    batches = (
        {"X": torch.tensor(x), "mask": torch.tensor(m)} for x, m in zip(cut(states(), 7), cut(masks, 7), strict=True)
    )
    has_same_scores(iso.measure(batches), iso.measure(states(), mask=masks))


@pytest.mark.parametrize(("free", "blocks"), [(None, 20), (10**9, 20), (10 * 2 * 8 * 36, 10), (100, 1)])
def test_the_number_of_blocks_follows_the_free_memory(
    monkeypatch: pytest.MonkeyPatch, free: int | None, blocks: int
) -> None:
    monkeypatch.setattr(_batched, "free_memory", lambda: free)
    cloud = BatchedCloud().take(cut(points(), 10))
    assert cloud.blocks == blocks
    measured = cloud.measurement()
    assert (measured.standard_error is None) == (blocks < 8)
    has_same_scores(measured, iso.measure(points()))


def nan_in_the_third() -> Iterator[np.ndarray]:
    for number, part in enumerate(cut(points(), 50)):
        if number == 3:
            part = part.copy()
            part[17, 2] = np.nan
        yield part


def widths() -> Iterator[np.ndarray]:
    yield points(dim=4)
    yield points(dim=5)


def mixed() -> Iterator[np.ndarray]:
    yield states()
    yield points()


MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "NaN": (nan_in_the_third, iso.InvalidValueError, r"X, batch 3 \(counted from 0\).*finite.*17"),
    "nothing": (lambda: iter(()), iso.InvalidValueError, "at least one batch of points; got none"),
    "widths": (widths, iso.InvalidValueError, r"batch 1 .*of 4 dimensions; got points of 5"),
    "kinds": (mixed, iso.InvalidValueError, "batch 1 .*independent points after axis 0"),
    "fields": (lambda: iter([{"input_ids": 3}]), iso.InvalidTypeError, "got a dict of 'input_ids'. Choose the points"),
    "words": (lambda: iter(["word"]), iso.InvalidTypeError, "str is no array of a known framework"),
    "ragged": (lambda: iter([[1.0, 2.0], [1.0]]), iso.InvalidValueError, "vectors of one cloud have one length"),
    "one row": (lambda: iter([points(1)]), iso.DegenerateDataError, "at least 2"),
    "one point": (lambda: iter([np.ones((9, 4))]), iso.DegenerateDataError, "identical"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_names_the_batch(case: str) -> None:
    make, kind, message = MISTAKES[case]
    with pytest.raises(kind, match=message) as found:
        iso.measure(make())
    assert "\n" not in str(found.value)


def test_arguments_of_one_batch_are_refused() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"mask: expected none for an iterable of batches"):
        iso.measure(cut(points(), 9), mask=np.ones(600))
    with pytest.raises(iso.InvalidTypeError, match=r"groups: labels of batches come with them.*got ndarray"):
        iso.measure(cut(points(), 9), groups=np.ones(600))


def test_an_error_of_the_stream_itself_is_its_own() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield points()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        iso.measure(broken())


def test_files_are_measured_by_their_names(tmp_path: Path) -> None:
    X = states()
    for i, part in enumerate(cut(X, 40)):
        np.save(tmp_path / f"states_{i}.npy", part)
    for name in (tmp_path, str(tmp_path / "states_*.npy")):
        has_same_scores(iso.measure(name), iso.measure(X))
    found = iso.measure(tmp_path, groups=None)
    assert found.group_count is None
    np.save(tmp_path / "mask.npy", X[..., 0] > 0)
    found = iso.measure(tmp_path / "states_*.npy", mask=tmp_path / "mask.npy")
    has_same_scores(found, iso.measure(X, mask=X[..., 0] > 0))
    assert found.standard_error == pytest.approx(iso.measure(X, mask=X[..., 0] > 0).standard_error, abs=TOLERANCE)
    with pytest.raises(iso.InvalidTypeError, match=r"mask: of a file it is the name of a file.*got ndarray"):
        iso.measure(tmp_path, mask=np.ones(3))
    with pytest.raises(iso.InvalidValueError, match=r"nowhere\.npy: no such file"):
        iso.measure("nowhere.npy")


def test_a_few_points_of_another_width_are_named(rng: np.random.Generator) -> None:
    told = r"batch 1 \(counted from 0\): this cloud is of 6 dimensions; got points of 5"
    with pytest.raises(iso.InvalidValueError, match=told):
        iso.measure(iter([rng.normal(size=(20, 6)), rng.normal(size=(20, 5))]))
