"""Shares of 1/PR, against covariances written out; each sum is an identity."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference


@pytest.fixture
def tokens(rng: np.random.Generator) -> np.ndarray:
    """Token states (40 sequences, 9 tokens, 12 dimensions) with an outlier coordinate and a far mean."""
    scales = np.r_[6.0, 3.0, np.linspace(0.5, 1.5, 10)]
    rotation = np.linalg.qr(rng.normal(size=(11, 11)))[0]
    states = (rng.normal(size=(40, 1, 12)) + rng.normal(size=(40, 9, 12))) * scales
    states[..., 1:] = states[..., 1:] @ rotation
    return states + 5


def halves(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dim = tokens.shape[-1]
    first, second = (np.cov(tokens[half::2].reshape(-1, dim).T) for half in (0, 1))
    return first, second


def score(points: np.ndarray, dim: int | None = None) -> float:
    cov = np.cov(points.T)
    return float((np.trace(cov) ** 2 / np.sum(cov**2) - 1) / ((dim or points.shape[1]) - 1))


def test_directions(tokens: np.ndarray) -> None:
    points = tokens.reshape(-1, 12)
    cov = np.cov(points.T)
    values, vectors = np.linalg.eigh(cov)
    fractions = values[::-1] / values.sum()
    found = iso.measure(tokens).explain().directions
    named = [direction for direction in found if direction.index is not None]
    assert [direction.variance_share for direction in named] == pytest.approx(list(fractions[:10]), abs=1e-12)
    # The identity: the terms p² add up to 1/PR = 1/(1 + (d − 1)·score) of Algorithm 1 as printed.
    ratio = 1 + 11 * reference.isoscore_star(points)
    assert sum(direction.variance_share**2 for direction in named) + np.sum(fractions[10:] ** 2) == pytest.approx(
        1 / ratio, rel=1e-12
    )
    assert [direction.share for direction in named] == pytest.approx(list(fractions[:10] ** 2 * ratio), rel=1e-9)
    assert sum(direction.share for direction in found) == pytest.approx(1, abs=1e-12)
    assert found[-1].index is None
    first, second = halves(tokens)
    terms = np.array([u @ first @ second @ u for u in vectors.T[::-1]]) / np.sum(first * second)
    assert [direction.halves_share for direction in named] == pytest.approx(list(terms[:10]), abs=1e-9)
    assert sum(direction.halves_share or 0 for direction in found) == pytest.approx(1, abs=1e-12)


def test_coordinates(tokens: np.ndarray) -> None:
    cov = np.cov(tokens.reshape(-1, 12).T)
    explanation = iso.measure(tokens).explain()
    outlier, others = explanation.coordinates
    assert (outlier.dimension, others.dimension) == (0, None)
    assert outlier.share == pytest.approx(cov[0, 0] ** 2 / np.sum(cov**2), rel=1e-9)
    assert explanation.diagonal_share == pytest.approx(np.sum(np.diag(cov) ** 2) / np.sum(cov**2), rel=1e-9)
    first, second = halves(tokens)
    assert outlier.halves_share == pytest.approx(first[0, 0] * second[0, 0] / np.sum(first * second), rel=1e-9)


def test_within_and_between_groups(tokens: np.ndarray) -> None:
    points = tokens.reshape(-1, 12)
    within = tokens - tokens.mean(axis=1, keepdims=True)
    total = np.cov(points.T, ddof=0)
    own = np.einsum("gti,gtj->ij", within, within) / len(points)
    between = total - own
    (found,) = iso.measure(tokens).explain().between
    assert (found.name, found.group_count) == ("groups", 40)
    assert found.variance_share == pytest.approx(np.trace(between) / np.trace(total), rel=1e-9)
    squares = np.sum(total**2)
    shares = np.sum(own**2) / squares, 2 * np.sum(own * between) / squares, np.sum(between**2) / squares
    assert found.shares == pytest.approx(shares, rel=1e-9)
    assert sum(found.shares) == pytest.approx(1, abs=1e-12)
    assert found.score_within == pytest.approx(reference.isoscore_star(within.reshape(-1, 12)), abs=1e-12)


def test_between_classes_of_unequal_size(rng: np.random.Generator) -> None:
    classes = [rng.normal(size=(count, 6)) + shift for count, shift in ((30, 0.0), (70, 2.0), (5, -4.0))]
    points = np.concatenate(classes)
    moments = [iso.Moments().update(one) for one in classes]
    (found,) = iso.measure(points).explain(between={"languages": moments}).between
    centred = np.concatenate([one - one.mean(axis=0) for one in classes])
    assert found.variance_share == pytest.approx(1 - np.sum(centred**2) / np.sum((points - points.mean(0)) ** 2))
    assert found.score_within == pytest.approx(reference.isoscore_star(centred), abs=1e-12)


def test_lidar(tokens: np.ndarray) -> None:
    means = tokens.mean(axis=1)
    between = 9 * np.cov(means.T)  # of equal groups, n_g times the covariance of their means
    within = np.einsum("gti,gtj->ij", tokens - means[:, None], tokens - means[:, None]) / (40 * 9 - 40)
    values, vectors = np.linalg.eigh(within + 1e-4 * np.trace(within) / 12 * np.eye(12))
    root = vectors / np.sqrt(values) @ vectors.T
    fractions = np.linalg.eigvalsh(root @ between @ root)
    fractions = fractions / fractions.sum()
    (found,) = iso.measure(tokens).explain().between
    assert found.lidar == pytest.approx(np.exp(-np.sum(fractions * np.log(fractions))), rel=1e-9)


def test_parts_against_leaving_them_out(tokens: np.ndarray) -> None:
    tokens[:, 0, 3] += 500.0  # massive first tokens
    first, others = iso.Moments().update(tokens[:, :1]), iso.Moments().update(tokens[:, 1:])
    found = iso.measure(tokens).explain(parts={"first tokens": first, "other tokens": others}).parts[0]
    rest, points = tokens[:, 1:].reshape(-1, 12), tokens.reshape(-1, 12)
    scatters = [np.cov(part.T, ddof=0) * len(part) for part in (rest, points)]
    assert (found.name, found.count) == ("first tokens", 40)
    assert found.variance_share == pytest.approx(1 - np.trace(scatters[0]) / np.trace(scatters[1]), rel=1e-9)
    assert found.share == pytest.approx(1 - np.sum(scatters[0] ** 2) / np.sum(scatters[1] ** 2), rel=1e-9)
    assert found.score_without == pytest.approx(reference.isoscore_star(rest), abs=1e-12)
    assert found.unbiased_without == pytest.approx(iso.isoscore_unbiased(tokens[:, 1:]), abs=1e-12)


def test_parts_that_are_not_all_points_are_refused(tokens: np.ndarray) -> None:
    measured = iso.measure(tokens)
    with pytest.raises(iso.InvalidValueError, match="all 360 points"):
        measured.explain(parts={"first tokens": iso.Moments().update(tokens[:, :1])})
    with pytest.raises(iso.InvalidTypeError, match="expected Moments"):
        measured.explain(parts={"first tokens": tokens})  # type: ignore[dict-item]


def test_parts_of_other_points_are_refused(tokens: np.ndarray, rng: np.random.Generator) -> None:
    measured = iso.measure(tokens)
    for other in (rng.normal(size=tokens.shape), tokens * 1.01, tokens + 1.0):
        halves = iso.Moments().update(other[:20]), iso.Moments().update(other[20:])
        with pytest.raises(iso.InvalidValueError, match="of another mean or variance"):
            measured.explain(parts={"a": halves[0], "b": halves[1]})
        with pytest.raises(iso.InvalidValueError, match="of another mean or variance"):
            measured.explain(between={"classes": halves})
    with pytest.raises(iso.InvalidTypeError, match="mapping"):
        measured.explain(parts=[iso.Moments().update(tokens)])  # type: ignore[arg-type]
    whole = iso.Moments().update(tokens)
    assert [part.name for part in measured.explain(parts={"all": whole, "none": iso.Moments()}).parts] == [
        part.name for part in measured.explain().parts
    ]


def test_what_is_rounding_alone_has_no_score(rng: np.random.Generator) -> None:
    line = rng.normal(size=(200, 1)) @ rng.normal(size=(1, 64))
    explanation = iso.measure(line).explain()
    assert all(what_if.score == 0 for what_if in explanation.what_ifs if what_if.name.startswith("without the"))
    assert not any("The largest direction" in sentence for sentence in explanation.sentences)


def test_what_ifs(tokens: np.ndarray) -> None:
    points = tokens.reshape(-1, 12)
    moved = points - points.mean(axis=0)
    directions = np.linalg.svd(moved, full_matrices=False)[2]
    values = np.linalg.svd(moved, compute_uv=False)
    expected = {
        "without the largest direction": score(moved - moved @ directions[:1].T @ directions[:1]),
        "without the 3 largest directions": score(moved - moved @ directions[:3].T @ directions[:3]),
        "without outlier coordinate 0": score(moved[:, 1:], 12),
        "each coordinate standardised": score(moved / moved.std(axis=0)),
        "half whitened (power 0.5)": score(moved @ directions.T / np.sqrt(values)),
    }
    found = {what_if.name: what_if for what_if in iso.measure(tokens).explain().what_ifs}
    for name, value in expected.items():
        assert found[name].score == pytest.approx(value, abs=1e-9), name
    first, second = (half / np.sqrt(np.outer(*[moved.var(axis=0)] * 2)) for half in halves(tokens))
    unbiased = (np.trace(first) * np.trace(second) / np.sum(first * second) - 1) / 11
    assert found["each coordinate standardised"].unbiased_score == pytest.approx(unbiased, abs=1e-9)


def test_measures(tokens: np.ndarray) -> None:
    points = tokens.reshape(-1, 12)
    moved = points - points.mean(axis=0)
    found = {measure.name: measure.value for measure in iso.measure(tokens).explain().measures}

    def entropy_rank(array: np.ndarray) -> float:
        fractions = np.linalg.svd(array, compute_uv=False)
        fractions = fractions / fractions.sum()
        return float(np.exp(-np.sum(fractions * np.log(fractions))))

    def stable_rank(array: np.ndarray) -> float:
        return float(np.linalg.norm(array, "fro") ** 2 / np.linalg.norm(array, 2) ** 2)

    assert found["effective rank, centred"] == pytest.approx(entropy_rank(moved), rel=1e-9)
    assert found["RankMe (effective rank, not centred)"] == pytest.approx(entropy_rank(points), rel=1e-9)
    assert found["stable rank, centred"] == pytest.approx(stable_rank(moved), rel=1e-9)
    assert found["stable rank, not centred"] == pytest.approx(stable_rank(points), rel=1e-9)
    assert found["condition number"] == pytest.approx(np.linalg.cond(np.cov(points.T)), rel=1e-9)
    share = np.sum(points.mean(0) ** 2) / np.mean(np.sum(points**2, axis=1))
    assert iso.measure(tokens).explain().mean_share == pytest.approx(share, rel=1e-12)


def test_power_law(rng: np.random.Generator) -> None:
    dim, ranks = 200, np.arange(1, 201)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    points = rng.normal(size=(20_000, dim)) * ranks**-0.6 @ rotation
    found = {measure.name: measure for measure in iso.measure(points).explain().measures}
    decay = found["alpha-ReQ (decay of eigenvalues)"]
    # λⱼ = j^(-1.2); each of 90 logarithms is known to √(2/20,000) = .01, the slope over ln(100/11) to about .002.
    assert decay.value == pytest.approx(1.2, abs=0.02)
    assert decay.note == "fitted to ranks 11 to 100"


@pytest.mark.parametrize("scale", [1e-160, 1.0, 1e150])
def test_scale_plays_no_part(tokens: np.ndarray, scale: float) -> None:
    plain, scaled = (iso.measure(points).explain() for points in (tokens, tokens * scale))
    values = [[one.value for one in of.measures if one.value is not None] for of in (scaled, plain)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert [one.share for one in scaled.directions] == pytest.approx([one.share for one in plain.directions], abs=1e-9)
    assert scaled.mean_share == pytest.approx(plain.mean_share, abs=1e-9)
    assert [one.score for one in scaled.what_ifs] == pytest.approx([one.score for one in plain.what_ifs], abs=1e-9)
    first, others = iso.Moments().update(tokens[:, :1] * scale), iso.Moments().update(tokens[:, 1:] * scale)
    parts = iso.measure(tokens * scale).explain(parts={"first": first, "others": others}).parts
    assert all(0 < part.variance_share < 1 for part in parts[:2])


def test_fewer_points_than_dimensions(rng: np.random.Generator) -> None:
    points = rng.normal(size=(8, 3, 40)) * np.linspace(0.5, 2, 40)
    explanation = iso.measure(points).explain()
    assert sum(direction.share for direction in explanation.directions) == pytest.approx(1, abs=1e-12)
    assert explanation.to_dict()["measures"][-2]["value"] == "inf"


def test_errors_of_measures_leave_out_blocks(tokens: np.ndarray) -> None:
    blocks = [iso.Moments().update(tokens[r::10]) for r in range(10)]
    measured = iso.Measurement.from_blocks(blocks)
    left_out = []
    for r in range(10):
        points = np.concatenate([tokens[s::10] for s in range(10) if s != r]).reshape(-1, 12)
        values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        left_out.append(np.sum(values**2) / values[0] ** 2)
    found = {measure.name: measure.error for measure in measured.explain(blocks=blocks).measures}
    expected = np.sqrt(9 / 10 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert found["stable rank, centred"] == pytest.approx(expected, rel=1e-9)
    assert all(measure.error is None for measure in measured.explain().measures)
    with pytest.raises(iso.InvalidValueError, match="all 360 points"):
        measured.explain(blocks=blocks[:9])
