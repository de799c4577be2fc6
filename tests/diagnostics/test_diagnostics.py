"""The other measures against brute force: their definitions written out over every pair, direction and neighbour."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from adapters import Adapter
from diagnostic_measures import ALL, INTRINSIC, needs

import isoscore_star as iso
from isoscore_star import diagnostics


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(60, 7)) * [9, 1, 1, 0.7, 0.5, 0.5, 0.3] + [1, 0, -2, 0, 0, 0.5, 0]


def distances(points: np.ndarray) -> np.ndarray:
    """Give each point's distances to the others, in order."""
    found = np.array([[math.dist(a, b) for b in points] for a in points])
    return np.sort(found, axis=1)[:, 1:]


def test_average_cosine_similarity(points: np.ndarray) -> None:
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(points, 2)]
    assert diagnostics.average_cosine_similarity(points) == pytest.approx(np.mean(cosines), abs=1e-13)


@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_partition_score(points: np.ndarray, scale: float) -> None:
    # In 40 digits, where exp(30 · 20) is a number like any other.
    mpmath = pytest.importorskip("mpmath")
    points = points * scale
    _, columns = np.linalg.eig(points.T @ points)
    directions = [sign * columns[:, k] for k in range(points.shape[1]) for sign in (1, -1)]
    sums = [mpmath.fsum(mpmath.exp(float(direction @ point)) for point in points) for direction in directions]
    expected = float(min(sums) / max(sums))
    # An eigenvector is known to some 1e-15, hence an exponent of 600 to 1e-12.
    assert diagnostics.partition_score(points) == pytest.approx(expected, rel=1e-9, abs=0)


def test_partition_score_is_the_same_for_mirrored_points(points: np.ndarray) -> None:
    assert diagnostics.partition_score(-points) == pytest.approx(diagnostics.partition_score(points), rel=1e-12)


@pytest.mark.parametrize(("share", "k"), [(0.3, 2), (0.05, 1), (1.0, 7)])
def test_varex_score(points: np.ndarray, share: float, k: int) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    explained = decomposition.PCA().fit(points).explained_variance_ratio_[:k].sum()
    assert diagnostics.varex_score(points, share) == pytest.approx(k / 7 / explained, rel=1e-12)


def test_varex_score_counts_whole_components() -> None:
    # Of 100 equal variances the first 29 hold 0.29, though 0.29 · 100 is 28.999… in floating point.
    points = np.vstack([np.eye(100), -np.eye(100)]) * np.where(np.arange(100) < 29, 2.0, 1.0)
    assert diagnostics.varex_score(points, 0.29) == pytest.approx(0.29 / (29 * 4 / (29 * 4 + 71)), rel=1e-12)


def test_rank_me(points: np.ndarray) -> None:
    singular = np.sqrt(np.linalg.eigvalsh(points.T @ points))
    shares = [value / sum(singular) + 1e-7 for value in singular]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert diagnostics.rank_me(points) == pytest.approx(expected, rel=1e-12)


def test_condition_number(points: np.ndarray) -> None:
    assert diagnostics.condition_number(points) == pytest.approx(np.linalg.cond(np.cov(points.T)), rel=1e-11)
    assert diagnostics.condition_number(points[:7]) == math.inf
    assert diagnostics.condition_number(np.c_[points, points[:, 0] - points[:, 1]]) == math.inf


def test_condition_number_keeps_digits_that_a_covariance_loses(rng: np.random.Generator) -> None:
    # Orthogonal columns without mean, of lengths 1 and 1e-10: the covariance's smaller eigenvalue is below 1e-16.
    pair = np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * [1.0, 1e-10]
    rotation, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    # The rotated points are rounded to 1e-16, which is 1e-6 of the smaller column.
    assert diagnostics.condition_number(pair @ rotation) == pytest.approx(1e20, rel=1e-5)


@pytest.mark.parametrize("t", [2.0, 0.5])
def test_uniformity(points: np.ndarray, t: float) -> None:
    sphere = [point / np.linalg.norm(point) for point in points]
    potentials = [math.exp(-t * math.dist(a, b) ** 2) for a, b in combinations(sphere, 2)]
    assert diagnostics.uniformity(points, t) == pytest.approx(math.log(np.mean(potentials)), rel=1e-12)


def test_uniformity_of_sharp_potentials_does_not_underflow() -> None:
    # Three points at squared distances 4, 2 and 2: the mean of two exp(-600) and one exp(-1200), which is nothing.
    points = np.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 2.0]])
    assert diagnostics.uniformity(points, 300.0) == pytest.approx(-600 + math.log(2 / 3), rel=1e-12)


def test_uniformity_of_many_blocks(rng: np.random.Generator) -> None:
    spatial = pytest.importorskip("scipy.spatial.distance")
    points = rng.normal(size=(2100, 3))
    sphere = points / np.linalg.norm(points, axis=1, keepdims=True)
    expected = math.log(np.exp(-2 * spatial.pdist(sphere, "sqeuclidean")).mean())
    assert diagnostics.uniformity(points) == pytest.approx(expected, rel=1e-12)


def test_two_nn_dimension(points: np.ndarray) -> None:
    pytest.importorskip("skdim.id")
    nearest = distances(points)
    ratios = np.sort(nearest[:, 1] / nearest[:, 0])[: int(len(points) * 0.9)]
    below = np.arange(1, len(ratios) + 1) / len(points)
    x, y = np.log(ratios), -np.log(1 - below)
    assert diagnostics.two_nn_dimension(points) == pytest.approx(x @ y / (x @ x), rel=1e-9)


@pytest.mark.parametrize("neighbours", [5, 20])
def test_mle_dimension(points: np.ndarray, neighbours: int) -> None:
    pytest.importorskip("skdim.id")
    inverse = [np.log(row[neighbours - 1] / row[: neighbours - 1]).mean() for row in distances(points)]
    expected = 1 / np.mean(inverse)
    assert diagnostics.mle_dimension(points, neighbours) == pytest.approx(expected, rel=1e-9)
    assert diagnostics.id_score(points, neighbours) == pytest.approx(min(1, expected / 7), rel=1e-9)


@pytest.mark.parametrize("measure", [diagnostics.two_nn_dimension, diagnostics.mle_dimension])
def test_repeated_points_count_once_in_intrinsic_dimensions(points: np.ndarray, measure: Callable[..., float]) -> None:
    pytest.importorskip("skdim.id")
    repeated = np.vstack([points, points[:20], points[5:8]])
    assert measure(repeated) == pytest.approx(measure(points), rel=1e-12)


def test_outlier_dimensions(points: np.ndarray) -> None:
    variances = points.var(axis=0)
    expected = [(k, variances[k] / variances.sum()) for k in np.argsort(-variances) if variances[k] >= variances.mean()]
    found = diagnostics.outlier_dimensions(points, 1.0)
    assert [one.dimension for one in found] == [k for k, _ in expected]
    assert [one.variance_share for one in found] == pytest.approx([share for _, share in expected])
    measured = iso.measure(points).outlier_dimensions
    assert [one.dimension for one in diagnostics.outlier_dimensions(points)] == [one.dimension for one in measured]


@pytest.mark.parametrize("measure", [ALL[0], ALL[2], ALL[4], ALL[5]])
def test_every_framework_masks_and_unions(backend: Adapter, points: np.ndarray, measure: Callable[..., float]) -> None:
    keep = np.arange(60) % 3 != 0
    hidden = np.where(keep[:, None], points, np.nan)
    got = measure([backend.native(hidden[:20]), backend.native(hidden[20:])], mask=[keep[:20], keep[20:]])
    assert got == pytest.approx(measure(points[keep]), rel=1e-12)


@pytest.mark.parametrize("measure", ALL[2:3] + ALL[4:5] + INTRINSIC)
def test_measures_of_spread_do_not_feel_a_far_mean(points: np.ndarray, measure: Callable[..., float]) -> None:
    needs(measure)
    # Adding 1e6 rounds each coordinate to 1e-10, relative to a smallest spread of 0.3.
    assert measure(points + 1e6) == pytest.approx(measure(points), rel=1e-7)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("measure", [ALL[0], *ALL[2:6]])
def test_measures_without_scale(points: np.ndarray, measure: Callable[..., float], scale: float) -> None:
    assert measure(points * scale) == pytest.approx(measure(points), rel=1e-11)


@pytest.mark.parametrize("measure", ALL)
def test_wrong_input_is_an_error_of_the_library(points: np.ndarray, measure: Callable[..., object]) -> None:
    needs(measure)
    with pytest.raises(iso.InvalidValueError, match="points as rows"):
        measure(points[0])
    with pytest.raises(iso.InvalidValueError, match="finite"):
        measure(np.where(points > 9, np.nan, points))
    with pytest.raises(iso.DegenerateDataError):
        measure(np.zeros((30, 4))) if measure is not diagnostics.partition_score else measure(points[:0])


def test_parameters_are_checked(points: np.ndarray) -> None:
    pytest.importorskip("skdim.id")
    for call, name in [
        (lambda: diagnostics.varex_score(points, 1.5), "share"),
        (lambda: diagnostics.uniformity(points, 0.0), "t:"),
        (lambda: diagnostics.outlier_dimensions(points, -1.0), "factor"),
        (lambda: diagnostics.mle_dimension(points, 2), "n_neighbors"),
        (lambda: diagnostics.mle_dimension(points, 60), "more|at least 61"),
        (lambda: diagnostics.compare_measures(points, max_pairwise_points=1), "max_pairwise_points"),
    ]:
        with pytest.raises(iso.InvalidValueError, match=name):
            call()
    with pytest.raises(iso.InvalidTypeError, match="n_neighbors"):
        diagnostics.mle_dimension(points, 5.0)  # type: ignore[arg-type]


def test_a_point_at_the_origin_has_no_direction(points: np.ndarray) -> None:
    points[3] = 0
    for measure in (diagnostics.average_cosine_similarity, diagnostics.uniformity):
        with pytest.raises(iso.DegenerateDataError, match="row 3"):
            measure(points)


def test_without_scikit_dimension_the_error_names_the_extra(
    points: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skdim", None)
    monkeypatch.delitem(sys.modules, "skdim.id", raising=False)
    with pytest.raises(iso.MissingDependencyError, match=r"isoscore-star\[diagnostics\]"):
        diagnostics.two_nn_dimension(points)
    row = next(row for row in diagnostics.compare_measures(points).rows if row.name == "ID score")
    assert row.value is None
    assert "isoscore-star[diagnostics]" in row.note


def test_compare_measures_is_the_single_measures(points: np.ndarray) -> None:
    pytest.importorskip("skdim.id")
    found = diagnostics.compare_measures(np.vstack([points, points]), mask=np.arange(120) < 60)
    assert (found.count, found.dim) == (60, 7)
    assert found["IsoScore"] == pytest.approx(iso.isoscore(points), abs=1e-12)
    assert found["unbiased score"] == pytest.approx(iso.isoscore_unbiased(points), abs=1e-12)
    assert found["average cosine similarity"] == diagnostics.average_cosine_similarity(points)
    assert found["partition score"] == diagnostics.partition_score(points)
    assert found["VarEx"] == diagnostics.varex_score(points)
    assert found["ID score"] == diagnostics.id_score(points)
    assert found["intrinsic dimension (TwoNN)"] == diagnostics.two_nn_dimension(points)
    assert found["RankMe"] == diagnostics.rank_me(points)
    assert found["uniformity"] == diagnostics.uniformity(points)
    assert found["condition number"] == diagnostics.condition_number(points)
    assert found["outlier dimensions"] == len(diagnostics.outlier_dimensions(points))
    with pytest.raises(KeyError, match="VarEx"):
        found["varex"]


def test_compare_measures_of_token_states(rng: np.random.Generator) -> None:
    pytest.importorskip("skdim.id")
    states, mask = rng.normal(size=(12, 1, 5)) + rng.normal(size=(12, 6, 5)), rng.random((12, 6)) > 0.3
    expected = iso.reference.isoscore_halves(*(states[half::2][mask[half::2]] for half in (0, 1)))
    found = diagnostics.compare_measures(states, mask)
    assert found["unbiased score"] == pytest.approx(expected, abs=1e-12)
    assert "halves of 12 groups" in {row.name: row.note for row in found.rows}["unbiased score"]
    independent = diagnostics.compare_measures(states, mask, groups=None)
    assert independent["unbiased score"] == pytest.approx(iso.isoscore_unbiased(states[mask]), abs=1e-12)


def test_compare_measures_samples_for_pairs_alone(rng: np.random.Generator) -> None:
    points = rng.normal(size=(500, 5))
    found = diagnostics.compare_measures(points, max_pairwise_points=100)
    notes = {row.name: row.note for row in found.rows}
    assert notes["uniformity"] == "of a random sample of 100 points"
    assert notes["RankMe"] == ""
    assert found == diagnostics.compare_measures(points, max_pairwise_points=100)
    # A hundred of five hundred: some hundredths apart, not the same.
    assert found["uniformity"] != diagnostics.uniformity(points)
    assert found["uniformity"] == pytest.approx(diagnostics.uniformity(points), abs=0.3)


def test_compare_measures_says_why_there_is_no_value(rng: np.random.Generator) -> None:
    points = rng.normal(size=(3, 5))
    points[0] = 0
    rows = {row.name: row for row in diagnostics.compare_measures(points).rows}
    assert rows["unbiased score"].value is None
    assert "origin" in rows["average cosine similarity"].note
    assert rows["condition number"].value == math.inf
    plain = diagnostics.compare_measures(points).to_dict()["measures"]
    assert next(row["value"] for row in plain if row["name"] == "condition number") == "inf"
