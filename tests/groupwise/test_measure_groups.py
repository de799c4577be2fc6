"""Every class is what its points are by themselves: by formulas written out, by enumeration, and by `measure`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import isoscore_star as iso
from isoscore_star.groupwise import _measure

Array = NDArray[Any]


def score_of(cov: Array) -> float:
    """(PR − 1)/(d − 1) of a covariance."""
    return float((np.trace(cov) ** 2 / np.sum(cov**2) - 1) / (len(cov) - 1))


def enumerated(points: Array) -> float:
    """Unbiased score of independent points: the U-statistics of order four, over all quadruples of different points."""
    quadruples = list(permutations(range(len(points)), 4))
    a, b, c, e = (points[list(column)] for column in zip(*quadruples, strict=True))
    of_square = np.mean(np.sum((a - b) * (c - e), axis=1) ** 2) / 4
    squared_trace = np.mean(np.sum((a - b) ** 2, axis=1) * np.sum((c - e) ** 2, axis=1)) / 4
    return float((squared_trace / of_square - 1) / (points.shape[1] - 1))


def of_halves(points: Array, groups: Array) -> float:
    """Score of the covariances of the groups with even and with odd places."""
    odd = np.searchsorted(np.unique(groups), groups) % 2 == 1
    first, second = np.cov(points[~odd].T), np.cov(points[odd].T)
    return float((np.trace(first) * np.trace(second) / np.sum(first * second) - 1) / (points.shape[1] - 1))


def delete_group(points: Array, groups: Array) -> float:
    """Standard error of `of_halves`, computed again without each group; the others keep their halves."""
    dim, variance = points.shape[1], 0.0
    odd = np.searchsorted(np.unique(groups), groups) % 2 == 1
    for half in (~odd, odd):
        thetas = []
        for group in np.unique(groups[half]):
            own, other = np.cov(points[half & (groups != group)].T), np.cov(points[~half].T)
            thetas.append(np.log(np.trace(own) * np.trace(other) / np.sum(own * other)))
        variance += (len(thetas) - 1) * np.var(thetas)
    return float(np.sqrt(variance) * (1 + (dim - 1) * of_halves(points, groups)) / (dim - 1))


def numbers_of(one: Any) -> tuple[float | None, float | None, float | None]:
    return one.score, one.unbiased_score, one.standard_error


@pytest.mark.parametrize("dim", [3, 12])  # seven points are more than 2d, and fewer than d
def test_formulas_written_out(rng: np.random.Generator, dim: int) -> None:
    labels = rng.permutation(np.repeat(["a", "b", "c"], 7))
    points = rng.normal(size=(21, dim)) * rng.gamma(1, size=dim) + 3
    measured = iso.measure_groups(points, by=labels)
    assert measured.labels.tolist() == ["a", "b", "c"]
    for one in measured:
        own = points[labels == one.label]
        assert one.count == 7
        # A score errs by some ε times the points; enumeration sums 840 terms, an error of √840·ε at most.
        assert one.score == pytest.approx(score_of(np.cov(own.T)), abs=1e-13)
        assert one.unbiased_score == pytest.approx(enumerated(own), rel=1e-11)
        left = [enumerated(np.delete(own, i, axis=0)) for i in range(7)]
        assert one.standard_error == pytest.approx(np.sqrt(6 * np.var(left)), rel=1e-9)


def test_exact_arithmetic(rng: np.random.Generator) -> None:
    """The score of a far, small cloud, with 50 digits."""
    points = rng.normal(size=(2, 5, 4)) * 1e-3 + 1e6
    measured = iso.measure_groups(points)
    with mpmath.workdps(50):
        for own, score in zip(points, measured.scores, strict=True):
            exact = mpmath.matrix(own.tolist())
            means = [sum(exact[i, j] for i in range(5)) / 5 for j in range(4)]
            cov = [
                [sum((exact[i, j] - means[j]) * (exact[i, k] - means[k]) for i in range(5)) for k in range(4)]
                for j in range(4)
            ]
            trace, squares = sum(cov[j][j] for j in range(4)), sum(x * x for row in cov for x in row)
            # Differences of such points are exact, so nothing is lost by the mean.
            assert score == pytest.approx(float((trace**2 / squares - 1) / 3), abs=1e-13)


@pytest.mark.parametrize("dim", [4, 30])  # 24 to 40 points a class: more than 2d, and about d
def test_halves_written_out(rng: np.random.Generator, dim: int) -> None:
    groups = rng.permutation(np.arange(24).repeat(rng.integers(2, 5, size=24)))
    labels = (groups % 3).astype(str)
    points = (rng.normal(size=(24, dim)) * np.linspace(1, 3, dim))[groups] + rng.normal(size=(len(groups), dim))
    measured = iso.measure_groups(points, by=labels, groups=groups)
    assert measured.group_counts is not None
    assert measured.group_counts.tolist() == [8, 8, 8]
    for one in measured:
        own, theirs = points[labels == one.label], groups[labels == one.label]
        assert one.score == pytest.approx(score_of(np.cov(own.T)), abs=1e-13)
        assert one.unbiased_score == pytest.approx(of_halves(own, theirs), rel=1e-11)
        assert one.standard_error == pytest.approx(delete_group(own, theirs), rel=1e-9)


def assert_same_split(found: Any, expected: Any) -> None:
    assert (found.name, found.group_count) == (expected.name, expected.group_count)
    for name in ("variance_share", "shares", "score_within", "lidar"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-10)


CASES = {
    "few points of many dimensions": (40, 5, False),
    "more points than dimensions": (6, 400, False),
    "masked": (9, 30, True),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grouped", [False, True])
def test_each_class_is_what_measure_says(rng: np.random.Generator, case: str, grouped: bool) -> None:
    dim, mean_count, masked = CASES[case]
    count = 12 * mean_count
    points = rng.standard_t(5, size=(count, dim)) * rng.gamma(1, size=dim) + 5
    labels = rng.integers(0, 12, size=count)
    groups = rng.integers(0, max(4, count // 3), size=count) if grouped else None
    mask = rng.random(count) < 0.8 if masked else None
    measured = iso.measure_groups(points, by=labels, mask=mask, groups=groups)
    assert len(measured) == len(np.unique(labels))
    for one in measured:
        own = labels == one.label
        expected = iso.measure(
            points[own], mask=None if mask is None else mask[own], groups=None if groups is None else groups[own]
        )
        assert one.count == expected.count
        for found, wanted in zip(numbers_of(one), numbers_of(expected), strict=True):
            assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-9))


def test_sequences_of_tokens(rng: np.random.Generator) -> None:
    """One label a document for (documents, tokens, d): groups are the documents, also those without any token."""
    states, lengths = rng.normal(size=(40, 6, 5)), rng.integers(0, 7, size=40)
    mask, languages = np.arange(6) < lengths[:, None], rng.permutation(np.repeat(["de", "en"], 20))
    measured = iso.measure_groups(states, by=languages, mask=mask)
    for one in measured:
        own = languages == one.label
        expected = iso.measure(states[own], mask=mask[own])
        assert numbers_of(one) == pytest.approx(numbers_of(expected), rel=1e-9)
        assert one.group_count == (lengths[own] > 0).sum()
    assert measured.whole == iso.measure(states, mask=mask)
    named = np.broadcast_to(languages[:, None], mask.shape)
    assert iso.measure_groups(states, by=named, mask=mask).to_dict() == measured.to_dict()


def test_arrays_of_clouds(rng: np.random.Generator) -> None:
    clouds, stacks = rng.normal(size=(7, 9, 3)), rng.normal(size=(3, 10, 4, 5))
    for array in (clouds, stacks):
        measured = iso.measure_groups(array)
        assert measured.labels.tolist() == list(range(len(array)))
        for one in measured:
            assert numbers_of(one) == pytest.approx(numbers_of(iso.measure(array[one.label])), rel=1e-9)
    second = iso.measure_groups(stacks, by=1, groups=None)
    assert second[4].score == pytest.approx(iso.isoscore(stacks[:, 4]), abs=1e-13)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), grouped=st.booleans())
def test_order_of_rows_and_of_labels_does_not_matter(seed: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    count, dim = int(rng.integers(8, 120)), int(rng.integers(2, 12))
    points, labels = rng.normal(size=(count, dim)) * 10 + 3, rng.integers(0, 6, size=count)
    groups = rng.integers(0, 40, size=count) if grouped else None
    order, names = rng.permutation(count), rng.permutation(6)
    first = iso.measure_groups(points, by=labels, groups=groups)
    second = iso.measure_groups(
        points[order], by=names[labels][order], groups=None if groups is None else groups[order]
    )
    for one in first:
        other = second[names[one.label]]
        assert one.count == other.count
        # Sums of other order: ε times the terms, which an unbiased score near its pole divides by little.
        assert one.score == (None if other.score is None else pytest.approx(other.score, abs=1e-12))
        if one.unbiased_score is not None and abs(one.unbiased_score) < 10:
            assert one.unbiased_score == pytest.approx(other.unbiased_score, rel=1e-9, abs=1e-9)
        if one.standard_error is not None and other.standard_error is not None and one.standard_error < 10:
            assert one.standard_error == pytest.approx(other.standard_error, rel=1e-6)
    assert first.between.variance_share == pytest.approx(second.between.variance_share, abs=1e-12)
    assert first.between.shares == pytest.approx(second.between.shares, abs=1e-12)


def test_the_split(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 5, size=200)
    points = rng.normal(size=(200, 6)) + 2 * rng.normal(size=(5, 6))[labels]
    measured = iso.measure_groups(points, by=labels)
    means = np.stack([points[labels == label].mean(axis=0) for label in labels])
    within, between = (points - means).T @ (points - means), np.cov(means.T, ddof=0) * 200
    total = np.sum((within + between) ** 2)
    found = measured.between
    assert found.variance_share == pytest.approx(np.trace(between) / np.trace(within + between), abs=1e-13)
    expected = np.sum(within**2) / total, 2 * np.sum(within * between) / total, np.sum(between**2) / total
    assert found.shares == pytest.approx(expected, abs=1e-13)
    assert found.score_within == pytest.approx(score_of(within), abs=1e-13)
    assert found.group_count == 5
    assert measured.whole == iso.measure(points)
    explained = iso.measure(points).explain(
        between={"classes": [iso.Moments().update(points[labels == label]) for label in range(5)]}
    )
    assert_same_split(explained.between[0], found)


@pytest.mark.parametrize(("distance", "tolerance"), [(2.0**5, 1e-7), (2.0**12, 1e-9), (2.0**27, 1e-9)])
def test_what_lies_within_far_classes_keeps_its_digits(
    rng: np.random.Generator, distance: float, tolerance: float
) -> None:
    """At the farthest A − B is rounding alone: variances within are 10⁻²⁰ of those between.

    At the nearest W is that difference, and errs by ε·tr A/tr W = 2·10⁻¹⁶/5·10⁻⁹; at the others it is summed by itself.
    """
    residuals = rng.normal(size=(6, 10, 3)) * 1e-2
    points = residuals + distance * rng.integers(-8, 8, size=(6, 1, 3))
    exact = points - points[:, :1]  # differences of near numbers
    exact = (exact - exact.mean(axis=1, keepdims=True)).reshape(60, 3)
    assert iso.measure_groups(points).between.score_within == pytest.approx(score_of(exact.T @ exact), abs=tolerance)
    assert iso.measure_groups(points[:, :1].repeat(4, axis=1)).between.score_within is None


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e-155])
def test_what_lies_within_where_a_class_is_one_point(rng: np.random.Generator, scale: float) -> None:
    labels = np.repeat(np.arange(4), 50)
    residuals = rng.normal(size=(200, 4)) * [3, 1, 1, 1]
    points = residuals + labels[:, None] * 1e9 * np.array([1, -2, 0.5, 3])
    points[labels == 3] = points[labels == 3][0]
    own = [points[labels == label] - points[labels == label][0] for label in range(4)]
    within = sum((one - one.mean(axis=0)).T @ (one - one.mean(axis=0)) for one in own)
    found = iso.measure_groups(points * scale, by=labels).between.score_within
    # Points of some 1e10, whose digits end at 2e-6: of residuals of about 1 five are left, and of a ratio as many.
    assert found == pytest.approx(score_of(within), rel=1e-4)


def test_labels_that_are_no_numbers_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(iso.InvalidValueError, match="got 1 NaN or inf"):
        iso.measure_groups(rng.normal(size=(4, 2)), by=[0.0, 1.0, np.inf, 1.0])


@pytest.mark.parametrize("scale", [1e-150, 1e-60, 1e60, 1e150])
@pytest.mark.parametrize("grouped", [False, True])
def test_scales(rng: np.random.Generator, scale: float, grouped: bool) -> None:
    points, labels = rng.normal(size=(90, 4)), np.arange(90) % 3
    groups = np.arange(90) // 3 if grouped else None
    expected = iso.measure_groups(points, by=labels, groups=groups)
    scales = np.where(labels == 1, scale, 1.0)[:, None]
    for scaled in (points * scale, points * scales):
        found = iso.measure_groups(scaled, by=labels, groups=groups)
        for one, other in zip(found, expected, strict=True):
            assert numbers_of(one) == pytest.approx(numbers_of(other), rel=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-12), ("float32", 1e-12), ("wide float32", 1e-5)])
def test_other_precisions(rng: np.random.Generator, dtype: str, tolerance: float) -> None:
    """Of few dimensions computed in float64; of 128 and more in float32, whose tolerance is that of every backend."""
    dim = 128 if dtype.startswith("wide") else 6
    points = (rng.normal(size=(8, 30, dim)) + 10).astype(dtype.split()[-1])
    found, expected = iso.measure_groups(points), iso.measure_groups(points.astype(np.float64))
    assert np.abs(found.scores - expected.scores).max() < tolerance
    assert np.abs(found.unbiased_scores - expected.unbiased_scores).max() < tolerance
    # Leave-one-out scores err by as much, and a standard error is the root of 29 times their variance.
    assert np.abs(found.standard_errors - expected.standard_errors).max() < 30 * tolerance


def test_far_points_of_wide_float32_leave_its_range_for_float64(rng: np.random.Generator) -> None:
    points = rng.normal(size=(2, 6, 128)).astype(np.float32)
    expected = iso.measure_groups(points.astype(np.float64))
    found = iso.measure_groups(points * np.float32(2.0**100))
    assert np.abs(found.scores - expected.scores).max() < 1e-5
    ends = np.where(np.arange(6)[:, None] % 2, 2e38, -2e38) * np.ones((6, 128))
    ends = (ends * rng.random((2, 6, 128))).astype(np.float32)
    found, expected = iso.measure_groups(ends), iso.measure_groups(ends / np.float32(1e38))
    assert np.abs(found.scores - expected.scores).max() < 1e-5


def test_undefined_ones_are_missing(rng: np.random.Generator) -> None:
    counts = [1, 2, 3, 4, 5, 6]
    labels = np.repeat(range(6), counts)
    points = rng.normal(size=(21, 3))
    points[labels == 5] = 7.5
    measured = iso.measure_groups(points, by=labels)
    missing = [[value is None for value in numbers_of(one)] for one in measured]
    assert missing[:4] == [[True] * 3, [False, True, True], [False, True, True], [False, False, True]]
    assert missing[4][:2] == [False, False]
    assert missing[5] == [True] * 3
    for figures in (measured.scores, measured.unbiased_scores, measured.standard_errors):
        assert np.isfinite(figures.compressed()).all()
    assert measured.warnings[0] == "2 of 6 classes have no score, which takes two points that differ"
    assert measured.to_dict()["classes"][5]["score"] is None


def test_groups_that_do_not_suffice(rng: np.random.Generator) -> None:
    """Two groups in each half for a score, three for its standard error; a half may have no point at all."""
    groups = np.repeat(np.arange(18), 4)
    labels = np.searchsorted([1, 4, 8, 13], groups, side="right")  # 1, 3, 4, 5 and 5 groups
    points, mask = rng.normal(size=(72, 3)), np.ones(72, bool)
    mask[(labels == 4) & (groups % 2 == 1)] = False
    measured = iso.measure_groups(points, by=labels, groups=groups, mask=mask)
    for one in measured:
        own = labels == one.label
        expected = iso.measure(points[own], groups=groups[own], mask=mask[own])
        for found, wanted in zip(numbers_of(one), numbers_of(expected), strict=True):
            assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-9))
    assert [one.unbiased_score is None for one in measured][:4] == [True, True, False, False]
    assert [one.standard_error is None for one in measured] == [True] * 5


@pytest.mark.parametrize("grouped", [False, True])
def test_classes_too_large_for_one_product(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    labels = rng.permutation(np.repeat([0, 1, 2], [40, 300, 3000]))
    points, groups = rng.normal(size=(3340, 4)) + 9, rng.integers(0, 500, size=3340) if grouped else None
    expected = iso.measure_groups(points, by=labels, groups=groups)
    monkeypatch.setattr(_measure, "LARGEST", 400)
    found = iso.measure_groups(points, by=labels, groups=groups)
    for one, other in zip(found, expected, strict=True):
        assert numbers_of(one) == pytest.approx(numbers_of(other), rel=1e-9)
    assert_same_split(found.between, expected.between)


def test_no_step_for_each_class(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def counted(clouds: Any, **options: Any) -> Any:
        batches.append(len(clouds.rows))
        return original(clouds, **options)

    original: Callable[..., Any] = _measure.figures_of
    monkeypatch.setattr(_measure, "figures_of", counted)
    iso.measure_groups(rng.normal(size=(20_000, 5, 3)))
    assert sum(batches) == 20_000
    assert len(batches) <= 1 + 20_000 * 15 / _measure.BATCH


def test_memory_is_that_of_the_places(tmp_path: Any, rng: np.random.Generator) -> None:
    import tracemalloc

    path = tmp_path / "points.npy"
    np.save(path, rng.normal(size=(100_000, 40)))  # 32 MB
    mapped, labels = np.load(path, mmap_mode="r"), rng.integers(0, 5000, size=100_000)
    tracemalloc.start()
    measured = iso.measure_groups(mapped, by=labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(measured) == 5000
    # Less than the points themselves: labels, their order and their numbers take 0.8 MB each.
    assert peak < 24e6


FRAMEWORKS: dict[str, Callable[[Any, Array], Any]] = {
    "torch": lambda torch, array: torch.from_numpy(array).requires_grad_(array.dtype.kind == "f"),
    "jax.numpy": lambda jnp, array: jnp.asarray(array),
    "pandas": lambda pandas, array: pandas.DataFrame(array) if array.ndim == 2 else pandas.Series(array),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_other_frameworks(rng: np.random.Generator, name: str) -> None:
    convert = FRAMEWORKS[name]
    module = pytest.importorskip(name)
    points, labels = rng.normal(size=(60, 5)).astype(np.float32), rng.integers(0, 4, size=60)
    given_points = convert(module, points)
    for by in (convert(module, labels), labels, labels.tolist()):
        assert iso.measure_groups(given_points, by=by).to_dict() == iso.measure_groups(points, by=labels).to_dict()


def test_lists_of_clouds(rng: np.random.Generator) -> None:
    layers, labels = [rng.normal(size=(30, 4)), rng.normal(size=(30, 4))], rng.integers(0, 3, size=30)
    measured = iso.measure_groups(layers, by=labels)
    whole = iso.measure_groups(np.concatenate(layers), by=np.concatenate([labels, labels]))
    assert measured.to_dict()["classes"] == whole.to_dict()["classes"]
    assert_same_split(measured.between, whole.between)
    assert measured.whole.score == pytest.approx(whole.whole.score, abs=1e-13)  # two blocks that are merged, or one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": None}, r"by: expected a label for each point .* got none for an array of 2 axes"),
        ({"by": "language"}, r"by: expected a label for each point .* got 'language'"),
        ({"by": True}, r"by: .* got True"),
        ({"by": np.zeros(3)}, r"by: expected shape \(20,\), one label for each point; got \(3,\)"),
        ({"by": np.full(20, np.nan)}, r"by: .* got 20 NaN"),
        ({"by": [None, *"a" * 19]}, r"by: .* array of labels, integers or strings"),
        ({"by": 1}, r"by: expected an axis of X other than its last one"),
        ({"by": np.zeros(20), "groups": np.zeros(3)}, r"groups: expected shape \(20,\)"),
        ({"by": np.zeros(20), "mask": np.full(20, 0.5)}, r"mask: expected only zeros and ones"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(iso.IsoScoreError, match=message):
        iso.measure_groups(np.random.default_rng(0).normal(size=(20, 3)), **arguments)


def test_bad_points(rng: np.random.Generator) -> None:
    points, labels = rng.normal(size=(20, 3)), np.arange(20) % 4
    points[13, 1] = np.nan
    with pytest.raises(iso.InvalidValueError, match=r"X: every value has to be finite.* the first in row 13"):
        iso.measure_groups(points, by=labels)
    found = iso.measure_groups(points, by=labels, mask=np.arange(20) != 13)
    assert found.counts.tolist() == [5, 4, 5, 5]
    with pytest.raises(iso.DegenerateDataError, match="all 20 points are identical"):
        iso.measure_groups(np.ones((20, 3)), by=labels)
    with pytest.raises(iso.InvalidValueError, match='"auto" reads arrays of four axes'):
        iso.measure_groups(rng.normal(size=(2, 2, 2, 2, 3)))
