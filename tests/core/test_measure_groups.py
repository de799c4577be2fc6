"""`measure` of groups: the jackknife against leaving out groups one by one, `from_moments`, and what has no error."""

from __future__ import annotations

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.core import standard_error

Points = np.ndarray
DIM = 12


def states_of(rng: np.random.Generator, sizes: list[int], dim: int = DIM) -> tuple[Points, np.ndarray]:
    """Draw points of groups that differ more than the points of one do, and their numbers."""
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), dim)) * np.geomspace(3, 0.5, dim)
    return centres[numbers] + rng.normal(size=(len(numbers), dim)) * np.linspace(0.3, 2, dim) + 5, numbers


def log_ratio(ours: Points, theirs: Points) -> float:
    """Compute log PR of two halves from their scatters, each about its own mean."""
    a, b = np.cov(ours.T, ddof=0) * len(ours), np.cov(theirs.T, ddof=0) * len(theirs)
    return float(np.log(np.trace(a) * np.trace(b) / np.sum(a * b)))


def by_leaving_out(points: Points, numbers: np.ndarray) -> float:
    """Compute V = Σₕ (Gₕ − 1)/Gₕ·Σ(θ₋g − θ̄ₕ)², each group g left out and all computed anew."""
    variance = 0.0
    for half in (0, 1):
        ours, theirs = numbers % 2 == half, points[numbers % 2 != half]
        groups = np.unique(numbers[ours])
        left = [log_ratio(points[ours & (numbers != group)], theirs) for group in groups]
        variance += (len(groups) - 1) * float(np.var(left))
    return variance


def expected_error(points: Points, numbers: np.ndarray) -> float:
    """Compute the standard error of the score from that of log PR."""
    ratio = np.exp(log_ratio(points[numbers % 2 == 0], points[numbers % 2 == 1]))
    return float(np.sqrt(by_leaving_out(points, numbers)) * ratio / (points.shape[1] - 1))


SIZES = {
    "equal": [7] * 10,
    "unequal": [1, 12, 5, 3, 30, 2, 9, 4, 6],
    "fewer points than dimensions": [1, 2, 1, 1, 2, 1],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_leaving_out_groups(rng: np.random.Generator, sizes: list[int]) -> None:
    points, numbers = states_of(rng, sizes)
    found = iso.measure(points, groups=numbers)
    assert found.standard_error == pytest.approx(expected_error(points, numbers), rel=1e-10)
    assert found.unbiased_score == pytest.approx(
        iso.reference.isoscore_halves(points[numbers % 2 == 0], points[numbers % 2 == 1]), abs=1e-12
    )
    assert (found.groups, found.group_count) == ("labels", len(sizes))
    alone = by_leaving_out(points, 2 * np.arange(len(points)) + numbers % 2)  # each point a group of the same half
    assert found.design_effect == pytest.approx(by_leaving_out(points, numbers) / alone, rel=1e-9)
    assert found.independent_score == pytest.approx(iso.isoscore_unbiased(points, groups=None), abs=1e-12)


def test_padding(rng: np.random.Generator) -> None:
    points, numbers = states_of(rng, [6] * 9)
    mask = rng.random((9, 6)) > 0.4
    mask[:, 0], mask[4] = True, False  # a sequence without any token is no group
    padded = np.where(mask[..., None], points.reshape(9, 6, DIM), np.nan)
    found, keep = iso.measure(padded, mask=mask), mask.reshape(-1)
    assert found.standard_error == pytest.approx(expected_error(points[keep], numbers[keep]), rel=1e-10)
    assert (found.groups, found.group_count, found.count) == ("axis 0", 8, mask.sum())


def test_layers_of_the_same_sequences(rng: np.random.Generator) -> None:
    layers = [states_of(rng, [tokens] * 8)[0].reshape(8, tokens, DIM) for tokens in (5, 3)]
    points = np.concatenate([layer.reshape(-1, DIM) for layer in layers])
    numbers = np.concatenate([np.repeat(np.arange(8), tokens) for tokens in (5, 3)])
    found = iso.measure(layers)
    assert found.standard_error == pytest.approx(expected_error(points, numbers), rel=1e-10)
    one_by_one = iso.Moments()
    for layer in layers:
        one_by_one.update(layer, first_group=0)
    again = iso.Measurement.from_moments(one_by_one, points, numbers)
    assert (again.group_count, again.unbiased_score) == (8, pytest.approx(found.unbiased_score, abs=1e-12))
    assert again.standard_error == pytest.approx(found.standard_error, rel=1e-9)
    merged = iso.Moments().update(layers[0]).merge(iso.Moments().update(layers[1]), same_groups=True)
    assert (merged.group_count, merged.isoscore_unbiased()) == (8, pytest.approx(found.unbiased_score, abs=1e-12))


def test_a_sequence_cut_in_two_by_updates(rng: np.random.Generator) -> None:
    points, numbers = states_of(rng, [5, 8, 3, 9, 7, 4])
    moments = iso.Moments()
    for part in np.split(np.arange(len(points)), [6, 11, 24]):
        moments.update(points[part], groups=numbers[part], first_group=0)
    assert moments.group_count == 6
    assert moments.isoscore_unbiased() == pytest.approx(iso.isoscore_unbiased(points, groups=numbers), abs=1e-12)


def test_blocks_in_any_order_give_what_all_rows_give(rng: np.random.Generator) -> None:
    points, numbers = states_of(rng, [4] * 30)
    order = rng.permutation(len(points))
    parts = np.split(order, [17, 60])
    moments = iso.Moments().update(points, groups=numbers)
    found = iso.Measurement.from_moments(moments, lambda: [(points[part], numbers[part]) for part in parts])
    expected = iso.measure(points, groups=numbers)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-10)
    assert found.interval == pytest.approx(expected.interval, rel=1e-9)
    assert found.longest_points == pytest.approx(expected.longest_points, rel=1e-9)
    assert found.warnings == expected.warnings


def test_numbers_count_on_from_update_to_update(rng: np.random.Generator) -> None:
    points, numbers = states_of(rng, [4] * 9)
    moments = iso.Moments()
    for part in np.split(points.reshape(9, 4, DIM), [3, 7]):
        moments.update(part)
    found = iso.Measurement.from_moments(moments, points, numbers)
    assert found.standard_error == pytest.approx(expected_error(points, numbers), rel=1e-10)
    assert (found.groups, found.group_count) == ("updates", 9)


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_any_scale(rng: np.random.Generator, scale: float) -> None:
    points, numbers = states_of(rng, [5] * 12)
    found, expected = iso.measure(points * scale, groups=numbers), iso.measure(points, groups=numbers)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)
    assert found.interval == pytest.approx(expected.interval, rel=1e-9)


def test_more_groups_than_are_left_out_one_by_one(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    points, numbers = states_of(rng, [3] * 2000)
    exact = iso.measure(points, groups=numbers).standard_error
    monkeypatch.setattr(standard_error, "MOST_GROUPS", 200)
    together = iso.measure(points, groups=numbers).standard_error
    blocks = np.where(numbers % 2, 1 + 2 * (numbers // 2 % 100), 2 * (numbers // 2 % 100))
    assert together == pytest.approx(expected_error(points, blocks), rel=1e-9)
    # A variance of 200 terms has a relative error of √(2/200) = 10 %, its root half of that; four times that.
    assert together == pytest.approx(exact, rel=0.2)


@pytest.mark.parametrize("groups", [4, 5])
def test_fewer_than_three_groups_a_half_have_no_error(rng: np.random.Generator, groups: int) -> None:
    points, numbers = states_of(rng, [20] * groups)
    found = iso.measure(points, groups=numbers)
    assert found.unbiased_score is not None
    assert (found.standard_error, found.interval, found.design_effect) == (None, None, None)
    assert found.warnings == ("too few points or groups for a standard error",)


def test_fewer_than_four_groups_have_no_unbiased_score(rng: np.random.Generator) -> None:
    found = iso.measure(states_of(rng, [20] * 3)[0].reshape(3, 20, DIM))
    assert (found.unbiased_score, found.standard_error, found.group_count) == (None, None, 3)
    assert found.score > 0
    assert found.warnings == ("too few groups (3) for the unbiased score",)


def test_the_interval_is_symmetric_in_the_square_of_the_ratio(rng: np.random.Generator) -> None:
    found = iso.measure(states_of(rng, [5] * 80)[0].reshape(80, 5, DIM))
    assert found.interval is not None
    assert found.unbiased_score is not None
    low, middle, high = (
        iso.participation_ratio(score, DIM) ** 2
        for score in (found.interval[0], found.unbiased_score, found.interval[1])
    )
    assert high - middle == pytest.approx(middle - low, rel=1e-9)
    # For so small an error the interval is nearly ± a quantile above the normal one.
    assert found.standard_error is not None
    assert 1.96 < (found.interval[1] - found.interval[0]) / (2 * found.standard_error) < 2.5


GROUPED = np.arange(20) % 5


@pytest.mark.parametrize(
    ("rows", "groups", "error", "message"),
    [
        ("all", np.arange(5), iso.InvalidValueError, "groups: expected shape"),
        ("all", GROUPED + 1, iso.InvalidValueError, "groups: expected the points of the moments"),
        ("all", GROUPED + 0.0, iso.InvalidTypeError, "groups: expected the numbers of groups, integers"),
        ("all", np.zeros(20, int), iso.InvalidValueError, "groups: .* 12 points with even numbers and 8 with odd ones"),
        ("none", GROUPED, iso.InvalidValueError, "groups: expected none without rows"),
        ("blocks", GROUPED, iso.InvalidValueError, "groups: expected none with blocks"),
        ("blocks", None, iso.InvalidValueError, "groups: expected the points of the moments"),
    ],
)
def test_numbers_that_do_not_fit(
    rng: np.random.Generator, rows: str, groups: np.ndarray | None, error: type[Exception], message: str
) -> None:
    points = rng.normal(size=(20, 4))
    moments = iso.Moments().update(points, groups=GROUPED)
    given = {"all": points, "none": None, "blocks": lambda: [(points[:7], GROUPED[:7])]}[rows]
    with pytest.raises(error, match=message):
        iso.Measurement.from_moments(moments, given, groups)


@pytest.mark.parametrize(
    ("X", "arguments", "error", "message"),
    [
        (np.ones((2, 3, 4)), {"first_group": -1}, iso.InvalidValueError, "first_group: expected an integer from 0"),
        (np.ones((2, 3, 4)), {"first_group": 1.5}, iso.InvalidTypeError, "first_group: expected an integer from 0"),
        (np.ones((6, 4)), {"first_group": 0}, iso.InvalidValueError, "first_group: expected none for independent"),
        (
            np.ones((2, 4)),
            {"first_group": 0, "groups": np.array([-1, 0])},
            iso.InvalidTypeError,
            "groups: with first_group, labels are the groups' numbers from 0 to 2³¹",
        ),
    ],
)
def test_first_groups_that_do_not_fit(X: Points, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        iso.Moments().update(X, **arguments)


def test_a_value_that_is_not_finite_is_named_by_its_row_in_all_points(rng: np.random.Generator) -> None:
    points, groups = rng.normal(size=(60, 4)), np.arange(60) // 3
    points[7, 1], points[40] = np.inf, np.nan
    told = "got 5 NaN or inf, the first in row 7 of those that count"
    for given, by in ((points, groups), (points.reshape(20, 3, 4), "auto")):
        with pytest.raises(iso.InvalidValueError, match=told):
            iso.measure(given, groups=by)
    with pytest.raises(iso.InvalidValueError, match=told):
        iso.measure_groups(points, by=np.arange(60) % 4, groups=groups)
