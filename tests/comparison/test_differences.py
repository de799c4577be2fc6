"""Differences and their intervals against leaving out each row, group or block and computing all anew in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import isoscore_star as iso
from isoscore_star.comparison import Stream, compare_layer

Points = np.ndarray
DIM = 6


def scatter(points: Points) -> Points:
    centred = points - points.mean(axis=0)
    return np.asarray(centred.T @ centred)


def pr_of_halves(points: Points, numbers: Points) -> float:
    """Compute tr A·tr B/⟨A, B⟩ of the groups with even and with odd numbers."""
    a, b = scatter(points[numbers % 2 == 0]), scatter(points[numbers % 2 == 1])
    return float(np.trace(a) * np.trace(b) / np.sum(a * b))


def pr_of_points(points: Points) -> float:
    """Compute the ratio of the U-statistics of (tr Σ)² and tr(Σ²): means over four different points of products."""
    m = len(points)
    centred = points - points.mean(axis=0)
    s = centred.T @ centred / (m - 1)
    t, f, q = np.trace(s), np.sum(s * s), np.sum(np.sum(centred**2, axis=1) ** 2) / (m - 1)
    squared_trace = 2 * f + (m * m - 3 * m + 1) * t * t - m * q
    return float(squared_trace / ((m - 1) * (m - 2) * f + t * t - m * q))


def score(ratio: float, dim: int = DIM) -> float:
    return (ratio - 1) / (dim - 1)


def tokens(rng: np.random.Generator, sequences: int = 10, length: int = 5, dim: int = DIM) -> Points:
    centres = rng.normal(size=(sequences, 1, dim)) * np.geomspace(3, 0.5, dim)
    return np.asarray(centres + rng.normal(size=(sequences, length, dim)) * np.linspace(0.3, 2, dim) + 5)


def satterthwaite(parts: list[Points]) -> float:
    """Compute half of 2V²/var V for V = Σu², with var V = Σu⁴ − (Σu²)²/G in each part, at most half of G − 2."""
    squares = [part**2 for part in parts]
    total = sum(float(part.sum()) for part in squares)
    spread = sum(float(np.sum(part**2) - part.sum() ** 2 / len(part)) for part in squares)
    return min(2 * total**2 / spread, sum(map(len, parts)) - 2.0) / 2


def test_points_left_out_of_both(rng: np.random.Generator) -> None:
    a = rng.normal(size=(40, DIM)) * np.geomspace(3, 1, DIM)
    b = a @ rng.normal(size=(DIM, DIM)) + 0.3 * rng.normal(size=a.shape)
    row = iso.compare(a, b).rows[0]
    ratios = np.array([[pr_of_points(np.delete(x, i, axis=0)) for x in (a, b)] for i in range(len(a))])
    logs, scores = np.diff(np.log(ratios))[:, 0], np.diff(score(ratios))[:, 0]
    m = len(a)
    error = np.sqrt((m - 1) * np.var(logs))
    assert row.log_ratio == pytest.approx(np.log(pr_of_points(b) / pr_of_points(a)), rel=1e-12)
    assert row.difference == pytest.approx(score(pr_of_points(b)) - score(pr_of_points(a)), rel=1e-12)
    assert row.log_ratio_error == pytest.approx(error, rel=1e-9)
    for values, centre, interval in (
        (logs, row.log_ratio, row.log_ratio_interval),
        (scores, row.difference, row.interval),
    ):
        deviations = np.sqrt((m - 1) / m) * (values - values.mean())
        reach = stats.t.ppf(0.975, satterthwaite([deviations])) * np.sqrt(np.sum(deviations**2))
        assert interval == pytest.approx((centre - reach, centre + reach), rel=1e-9)
    assert (row.paired, row.pairing) == (True, "paired over 40 points")


def of_groups(points: Points, numbers: Points) -> tuple[float, list[Points]]:
    """Compute log PR, and √((G − 1)/G)·(θ₋g − θ̄) for the groups of each half."""
    parts = []
    for half in (0, 1):
        groups = np.unique(numbers[numbers % 2 == half])
        left = np.array([np.log(pr_of_halves(points[numbers != g], numbers[numbers != g])) for g in groups])
        parts.append(np.sqrt((len(groups) - 1) / len(groups)) * (left - left.mean()))
    return float(np.log(pr_of_halves(points, numbers))), parts


def test_sequences_left_out_of_both(rng: np.random.Generator) -> None:
    a = tokens(rng)
    b = a @ rng.normal(size=(DIM, DIM)) + 0.3 * rng.normal(size=a.shape)
    row = iso.compare(a, b).rows[0]
    numbers = np.repeat(np.arange(len(a)), a.shape[1])
    (log_a, parts_a), (log_b, parts_b) = (of_groups(x.reshape(-1, DIM), numbers) for x in (a, b))
    changes = [its - ours for ours, its in zip(parts_a, parts_b, strict=True)]
    assert row.log_ratio == pytest.approx(log_b - log_a, rel=1e-12)
    assert row.log_ratio_error == pytest.approx(np.sqrt(sum(np.sum(part**2) for part in changes)), rel=1e-9)
    apart = np.sqrt(sum(np.sum(part**2) for part in parts_a + parts_b))
    alone = iso.compare(a, b, paired=False).rows[0]
    assert alone.log_ratio_error == pytest.approx(apart, rel=1e-9)
    assert (alone.interval != row.interval, alone.log_ratio_interval) == (True, row.unpaired_log_ratio_interval)
    assert row.pairing == "paired over 10 sequences"


def followed(a: Points, b: Points, freedom: float, steps: int = 20_000) -> tuple[float, float]:
    """Follow the error of log PR_b − log PR_a by Euler's rule, with deviations proportional to PR⁻²; PR above 1."""
    total = float(np.sum((b - a) ** 2))
    share = float(np.sum(b * (b - a))) / total
    ends = []
    for sign in (-1, 1):
        way, step = 0.0, sign * stats.t.ppf(0.975, freedom) / steps
        for _ in range(steps):
            way += step * np.sqrt(np.sum((b * np.exp(-2 * share * way) - a * np.exp(2 * (1 - share) * way)) ** 2))
        ends.append(way)
    return ends[0], ends[1]


def test_interval_of_groups(rng: np.random.Generator) -> None:
    a = tokens(rng, 100)
    b = a * np.linspace(0.6, 1.4, DIM)
    row = iso.compare(a, b).rows[0]
    numbers = np.repeat(np.arange(len(a)), a.shape[1])
    parts = [of_groups(x.reshape(-1, DIM), numbers)[1] for x in (a, b)]
    freedom = satterthwaite([its - ours for ours, its in zip(*parts, strict=True)])
    low, high = followed(*(np.concatenate(part) for part in parts), freedom)
    # Both follow the same curve: Euler's rule in 20,000 steps to about 1/20,000, ours closer.
    assert row.log_ratio_interval == pytest.approx((row.log_ratio + low, row.log_ratio + high), abs=1e-3 * (high - low))


def test_without_error_in_a_the_interval_is_that_of_one_cloud(rng: np.random.Generator) -> None:
    """Of a cloud of very many sequences the interval of a measurement is left, symmetric in PR²."""
    a = iso.measure(rng.normal(size=(20, 300, DIM)))
    b = iso.measure(tokens(rng, 80))
    sure = replace(a, standard_error=1e-12)
    row = compare_layer("x", sure, b)
    assert b.interval is not None
    expected = tuple(end - sure.unbiased_score for end in b.interval)
    assert row.interval == pytest.approx(expected, rel=2e-3)  # 64 steps of the midpoint rule


def test_groups_of_unequal_size_by_labels(rng: np.random.Generator) -> None:
    numbers = np.repeat(np.arange(9), [1, 12, 5, 3, 30, 2, 9, 4, 6])
    labels = np.array([f"s{9 - n}" for n in numbers])  # numbered in their order: s1 is group 0
    a = rng.normal(size=(len(numbers), DIM)) + rng.normal(size=(9, DIM))[numbers]
    b = a + 0.5 * rng.normal(size=a.shape)
    row = iso.compare(a, b, groups=labels).rows[0]
    own = 8 - numbers
    (log_a, parts_a), (log_b, parts_b) = of_groups(a, own), of_groups(b, own)
    error = np.sqrt(sum(np.sum((its - ours) ** 2) for ours, its in zip(parts_a, parts_b, strict=True)))
    assert (row.log_ratio, row.log_ratio_error) == pytest.approx((log_b - log_a, error), rel=1e-9)
    assert row.pairing == "paired over 9 groups"
    other = iso.compare(a, b, groups=labels, groups_b=np.char.add(labels, "x")).rows[0]
    assert (other.paired, other.pairing) == (False, "not paired: other labels of groups")


def test_blocks(rng: np.random.Generator) -> None:
    a = tokens(rng, 80, 4)
    b = a @ rng.normal(size=(DIM, DIM)) + 0.3 * rng.normal(size=a.shape)
    edges = [8, 20, 28, 36, 44, 52, 60, 68, 76]  # blocks of 4 to 12 sequences

    def blocks(x: Points) -> list[iso.Moments]:
        return [iso.Moments().update(part) for part in np.split(x, edges)]

    row = iso.compare(blocks(a), blocks(b)).rows[0]
    numbers, flat = np.repeat(np.arange(80), 4), [x.reshape(-1, DIM) for x in (a, b)]
    of_block = np.searchsorted(edges, numbers, side="right")
    log_all = np.diff([np.log(pr_of_halves(x, numbers)) for x in flat])[0]
    left = np.array(
        [np.diff([np.log(pr_of_halves(x[of_block != r], numbers[of_block != r])) for x in flat])[0] for r in range(10)]
    )
    h = 80 / np.diff([0, *edges, 80])  # Busing, Meijer & van der Leeden (1999), equations 4 and 6
    pseudo, centre = h * log_all - (h - 1) * left, 10 * log_all - np.sum((1 - 1 / h) * left)
    error = np.sqrt(np.mean((pseudo - centre) ** 2 / (h - 1)))
    assert (row.log_ratio, row.log_ratio_error) == pytest.approx((log_all, error), rel=1e-9)
    assert (row.paired, row.pairing, row.cka) == (True, "paired over 10 blocks", None)
    whole = iso.compare(a, b).rows[0]
    assert row.difference == pytest.approx(whole.difference, rel=1e-9)


def test_points_that_are_not_paired(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(60, DIM)), rng.normal(size=(50, DIM)) * np.geomspace(2, 1, DIM)
    row = iso.compare(a, b).rows[0]
    errors = []
    for x in (a, b):
        logs = np.log([pr_of_points(np.delete(x, i, axis=0)) for i in range(len(x))])
        errors.append(np.sqrt((len(x) - 1) * np.var(logs)))
    assert row.log_ratio_error == pytest.approx(np.hypot(*errors), rel=1e-9)
    assert (row.paired, row.cka, row.gain) == (False, None, None)
    assert row.pairing == "not paired: rows do not correspond: 60 and 50 points"
    assert "60 and 50" in row.cka_reason


def test_swapped_it_is_the_negative(rng: np.random.Generator) -> None:
    a = tokens(rng, 70)
    b = a * np.linspace(0.5, 1.5, DIM) + rng.normal(size=a.shape)
    for first, second in ((a, b), (a.reshape(-1, DIM), b.reshape(-1, DIM)), (a, b[:50])):
        there, back = iso.compare(first, second).rows[0], iso.compare(second, first).rows[0]
        assert (back.difference, back.log_ratio) == (-there.difference, -there.log_ratio)
        for name in ("interval", "log_ratio_interval", "unpaired_log_ratio_interval"):
            low, high = getattr(there, name)
            assert getattr(back, name) == pytest.approx((-high, -low), rel=1e-9)
        assert (back.cka or 0) == pytest.approx(there.cka or 0, rel=1e-12)
        assert back.angles == pytest.approx(there.angles, abs=1e-5)
        assert back.differs == there.differs


def test_identical_clouds(rng: np.random.Generator) -> None:
    a = tokens(rng, 70)
    for x in (a, a.reshape(-1, DIM), a.astype(np.float32), a[0]):
        row = iso.compare(x, x).rows[0]
        assert (row.difference, row.log_ratio, row.differs, row.is_rounding) == (0, 0, False, True)
        assert (row.interval, row.log_ratio_interval) == ((0, 0), (0, 0))
        assert row.cka == pytest.approx(1, abs=1e-6 if x.dtype == np.float32 else 1e-12)
        assert max(row.angles) < 1e-4


def test_rotated_and_scaled_clouds_differ_by_rounding_only(rng: np.random.Generator) -> None:
    a = tokens(rng, 70)
    rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    row = iso.compare(a, a @ rotation * 3 + 1).rows[0]
    assert (row.differs, row.is_rounding) == (False, True)
    assert row.cka == pytest.approx(1, abs=1e-12)
    assert row.angles[0] > 1


def test_streams_of_other_blocks(rng: np.random.Generator) -> None:
    a = tokens(rng, 300)
    b = a * np.linspace(0.5, 1.5, DIM) + rng.normal(size=a.shape)
    numbers = np.repeat(np.arange(300), a.shape[1])

    def stream(x: Points, edges: list[int], grouped: bool) -> Stream:
        flat, moments = x.reshape(-1, DIM), iso.Moments()
        parts = np.split(np.arange(len(flat)), edges)
        for part in parts:
            moments.update(flat[part], groups=numbers[part] if grouped else None, first_group=0 if grouped else None)
        return Stream(moments, lambda: ((flat[part], numbers[part] if grouped else None) for part in parts))

    for grouped in (True, False):
        found = iso.compare(stream(a, [17, 600], grouped), stream(b, [0, 599, 599, 1100], grouped)).rows[0]
        whole = iso.compare(*((a, b) if grouped else (a.reshape(-1, DIM), b.reshape(-1, DIM)))).rows[0]
        for name in ("difference", "log_ratio", "log_ratio_error", "cka"):
            assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-12)
        for name in ("interval", "log_ratio_interval", "unpaired_log_ratio_interval"):
            assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1e-12)
        assert found.angles == pytest.approx(whole.angles, abs=1e-9)


def test_measurements_and_sums(rng: np.random.Generator) -> None:
    a, b = tokens(rng, 70), tokens(rng, 80)
    measured = iso.compare(iso.measure(a), iso.measure(b)).rows[0]
    whole = iso.compare(a, b).rows[0]
    assert measured.interval == pytest.approx(whole.interval, rel=1e-9)
    assert measured.log_ratio_interval == pytest.approx(whole.log_ratio_interval, rel=1e-9)
    sums = iso.compare(iso.Moments().update(a), b).rows[0]
    assert (sums.difference, sums.interval, sums.differs) == (pytest.approx(whole.difference), None, None)
    assert any("no interval" in text for text in sums.warnings)
