"""The score of two halves of the groups, against pairs of covariances written out, in every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from adapters import Adapter

import isoscore_star as iso
from isoscore_star import reference

Points = np.ndarray

SHAPES = [(8, 40, 16), (6, 5, 64), (5, 30, 24), (4, 1, 8)]
"""More points than dimensions, fewer, an odd number of groups, one point a group."""


def states_of(rng: np.random.Generator, shape: tuple[int, int, int]) -> Points:
    """Points of groups that differ more than the points of one do."""
    groups, _, dim = shape
    return rng.normal(size=(groups, 1, dim)) * 3 + rng.normal(size=shape) * np.linspace(0.3, 2, dim) + 5


def halves_of(states: Points, mask: np.ndarray | None = None) -> tuple[Points, Points]:
    keep = np.ones(states.shape[:2], bool) if mask is None else mask.astype(bool)
    return states[0::2][keep[0::2]], states[1::2][keep[1::2]]


def closed_form(states: Points, mask: np.ndarray | None = None) -> Points:
    """∂s/∂X_A = 2/((n_A−1)(d−1))·(tr B/⟨A,B⟩·X − tr A·tr B/⟨A,B⟩²·X·B) for centred rows, in float64."""
    keep = np.ones(states.shape[:2], bool) if mask is None else mask.astype(bool)
    gradient, dim = np.zeros_like(states), states.shape[-1]
    covs = [np.cov(half.T) for half in halves_of(states, mask)]
    inner = np.sum(covs[0] * covs[1])
    for half in (0, 1):
        own, other = covs[half], covs[1 - half]
        rows = states[half::2][keep[half::2]]
        centred = rows - rows.mean(axis=0)
        slope = np.trace(other) / inner * centred - np.trace(own) * np.trace(other) / inner**2 * centred @ other
        gradient[half::2][keep[half::2]] = 2 / ((len(rows) - 1) * (dim - 1)) * slope
    return gradient


def loss(**arguments: Any) -> Callable[[Any], Any]:
    return lambda X: iso.istar_loss(X, estimator="unbiased", **arguments)


@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES)
def test_value(backend: Adapter, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    states = states_of(rng, shape)
    expected = reference.isoscore_halves(*halves_of(states))
    X = backend.native(states)
    assert abs(backend.value(iso.isoscore_unbiased, X) - expected) <= 1e-12
    assert abs(backend.value(lambda x: iso.isoscore_unbiased(x, groups=0), X) - expected) <= 1e-12
    assert abs(1 - backend.value(loss(), X) - expected) <= 1e-12


@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_padding(backend: Adapter, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    states = states_of(rng, shape)
    mask = rng.random(shape[:2]) > 0.3
    mask[:, 0] = True
    expected = reference.isoscore_halves(*halves_of(states, mask))
    padded = np.where(mask[..., None], states, np.nan)
    assert abs(backend.value(lambda x: iso.isoscore_unbiased(x, mask=mask), backend.native(padded)) - expected) <= 1e-12


@pytest.mark.parametrize("kind", ["axis", "integers", "strings"])
def test_groups_by_labels_and_other_axes(backend: Adapter, rng: np.random.Generator, kind: str) -> None:
    states = states_of(rng, (6, 20, 12))
    expected = reference.isoscore_halves(*halves_of(states))
    if kind == "axis":
        X, groups = states.swapaxes(0, 1), 1
    else:
        numbers = np.arange(10, 16) if kind == "integers" else np.array(list("abcdef"))
        X, groups = states.reshape(-1, 12), np.repeat(numbers, 20)  # type: ignore[assignment]
        order = rng.permutation(len(X))
        X, groups = X[order], groups[order]  # type: ignore[index]
    got = backend.value(lambda x: iso.isoscore_unbiased(x, groups=groups), backend.native(X))
    assert abs(got - expected) <= 1e-12


@pytest.mark.parametrize("met", [(0, 1, 2), (0, 2, 3, 4), (0, 1, 3, 4)])
def test_labels_that_are_not_read(
    differentiable: Adapter, rng: np.random.Generator, met: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is not known either, but training needs two groups with points in each half all the same."""
    if differentiable.name == "autograd":
        pytest.skip("its labels are NumPy's")
    monkeypatch.setattr(iso.get_backend(differentiable.name), "waits_for", lambda labels: True)
    states, numbers = states_of(rng, (5, 20, 12)), np.repeat(np.arange(5), 20).reshape(5, 20)
    mask = np.isin(numbers, met)
    X, groups = differentiable.native(states), differentiable.native(numbers)
    train = loss(mask=mask, groups=groups)
    enough = met == (0, 1, 3, 4)
    expected = 1 - reference.isoscore_halves(*halves_of(states, mask)) if enough else 1
    assert abs(differentiable.value(train, X) - expected) <= 1e-12
    assert differentiable.gradient(train, X).any() == enough


def test_union_of_layers_of_different_lengths(backend: Adapter, rng: np.random.Generator) -> None:
    layers = [states_of(rng, (5, tokens, 12)) for tokens in (20, 7, 11)]
    halves = [np.concatenate([layer[half::2].reshape(-1, 12) for layer in layers]) for half in (0, 1)]
    expected = reference.isoscore_halves(*halves)

    def score(first: Any) -> Any:
        return iso.isoscore_unbiased([first, *map(backend.native, layers[1:])])

    assert abs(backend.value(score, backend.native(layers[0])) - expected) <= 1e-12


@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_gradient(differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int, int], masked: bool) -> None:
    states = states_of(rng, shape)
    mask = None
    if masked:
        mask = rng.random(shape[:2]) > 0.3
        mask[:, 0] = True
    expected = -closed_form(states, mask)
    got = differentiable.gradient(loss(mask=mask), differentiable.native(states))
    assert np.abs(got - expected).max() <= 1e-10 * np.abs(expected).max()


@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_float32_far_from_zero(differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    X = differentiable.native(states_of(rng, shape) + 300, "float32")
    rounded = differentiable.rounded(states_of(np.random.default_rng(20231), shape) + 300, "float32")
    expected = reference.isoscore_halves(*halves_of(rounded))
    # ⟨A, B⟩ is at least some tr A·tr B/d here, so that its error, of ε·tr A·tr B, is d·ε of the score.
    assert abs(differentiable.value(iso.isoscore_unbiased, X) - expected) <= 1e-5
    gradient = -closed_form(rounded)
    got = differentiable.gradient(loss(), X)
    assert np.abs(got - gradient).max() <= 2e-5 * np.abs(gradient).max()


def test_half_precision(differentiable: Adapter, rng: np.random.Generator) -> None:
    states = states_of(rng, (8, 20, 16))
    for dtype in differentiable.half_dtypes:
        rounded = differentiable.rounded(states, dtype)
        expected = reference.isoscore_halves(*halves_of(rounded))
        assert abs(differentiable.value(loss(), differentiable.native(states, dtype)) - (1 - expected)) <= 1e-3


@pytest.mark.sampled
@pytest.mark.parametrize("scale", [1e150, 1e-150])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_any_scale(
    differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int, int], scale: float
) -> None:
    states = states_of(rng, shape)
    expected = -closed_form(states)
    X = differentiable.native(states * scale)
    got = differentiable.gradient(loss(), X)
    assert np.abs(got * scale - expected).max() <= 1e-10 * np.abs(expected).max()


def test_fewer_than_four_groups_train_nothing(differentiable: Adapter, rng: np.random.Generator) -> None:
    X = differentiable.native(states_of(rng, (3, 20, 8)))
    assert differentiable.value(loss(lam=2.0), X) == 2.0
    assert not differentiable.gradient(loss(lam=2.0), X).any()
    with pytest.raises(iso.DegenerateDataError, match="at least 4 groups"):
        differentiable.value(iso.isoscore_unbiased, X)


def test_padding_may_leave_one_group_in_a_half(backend: Adapter, rng: np.random.Generator) -> None:
    """Nothing of the variance between groups is left in that half: no score, although there are five groups."""
    states, mask = states_of(rng, (8, 6, 5)), np.ones((8, 6))
    mask[[1, 3, 5]] = 0
    with pytest.raises(iso.DegenerateDataError, match="got 5, 4 with even numbers and 1 with odd ones"):
        iso.isoscore_unbiased(backend.native(states), mask=mask)
    moments = iso.Moments().update(states[:4], mask[:4]).update(states[4:], mask[4:])
    with pytest.raises(iso.DegenerateDataError, match="got 5, 4 with even numbers and 1 with odd ones"):
        moments.isoscore_unbiased()
    assert iso.measure(states, mask=mask).unbiased_score is None
    # Another layer of the same sequences, in which one of the others has points: two in each half.
    other = iso.Moments().update(states, np.roll(mask, 1, axis=0))
    assert moments.merge(other, same_groups=True).isoscore_unbiased() > 0


def test_merged_groups_count_on(rng: np.random.Generator) -> None:
    states = states_of(rng, (9, 6, 5))
    expected = iso.isoscore_unbiased(states)
    one_by_one, parts = iso.Moments(), iso.Moments()
    for sequence in states:
        one_by_one.merge(iso.Moments().update(sequence[None]))
    for part in (states[:3], states[3:4], states[4:]):
        parts.merge(iso.Moments().update(part))
    assert one_by_one.isoscore_unbiased() == pytest.approx(expected, abs=1e-12)
    assert parts.isoscore_unbiased() == pytest.approx(expected, abs=1e-12)


@pytest.mark.sampled
@pytest.mark.parametrize("half", [0, 1])
def test_a_half_without_spread_trains_nothing(differentiable: Adapter, rng: np.random.Generator, half: int) -> None:
    states = states_of(rng, (8, 5, 8))
    states[half::2] = 3.0
    X = differentiable.native(states)
    assert differentiable.value(loss(), X) == 1.0
    assert not differentiable.gradient(loss(), X).any()
    with pytest.raises(iso.DegenerateDataError, match="no variance"):
        differentiable.value(iso.isoscore_unbiased, X)


def test_halves_that_share_no_direction(differentiable: Adapter, rng: np.random.Generator) -> None:
    states = states_of(rng, (8, 5, 8))
    states[0::2, :, :4] = 0.0
    states[1::2, :, 4:] = 0.0
    X = differentiable.native(states)
    # At the floor: ⟨A, B⟩ counts as tr A·tr B/(4d).
    assert abs(differentiable.value(loss(), X) - (1 - (4 * 8 - 1) / 7)) <= 1e-12
    assert not differentiable.gradient(loss(), X).any()
    with pytest.raises(iso.DegenerateDataError, match="no direction in common"):
        differentiable.value(iso.isoscore_unbiased, X)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("groups", "message"),
    [("first", "auto"), (True, "auto"), (2, "an axis of X"), (-1, "an axis of X"), (np.zeros(3, int), "one label for")],
)
def test_wrong_groups(backend: Adapter, rng: np.random.Generator, groups: Any, message: str) -> None:
    X = backend.native(states_of(rng, (8, 5, 8)))
    with pytest.raises(iso.IsoScoreError, match=message) as caught:
        backend.value(lambda x: iso.isoscore_unbiased(x, groups=groups), X)
    assert caught.value.argument == "groups"


def test_four_axes_have_two_readings(backend: Adapter, rng: np.random.Generator) -> None:
    X = backend.native(rng.normal(size=(3, 8, 5, 4)))
    with pytest.raises(iso.InvalidValueError, match=r"list\(X\), or groups=1.*groups=0"):
        backend.value(iso.isoscore_unbiased, X)


@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_anchored(differentiable: Adapter, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
    """2·s(S, Σ_S) − s(Σ_S, Σ_S) and its gradient, that of 2·s(S, Σ_S)."""
    states, dim = states_of(rng, shape), shape[-1]
    many = states_of(rng, (200, 4, dim)).reshape(-1, dim)
    cov = np.cov(many.T)
    rows = states.reshape(-1, dim)
    X = differentiable.native(states)
    value = differentiable.value(lambda x: iso.istar_loss(x, cov, estimator="anchored"), X)
    assert abs(1 - value - reference.isoscore_anchored(rows, cov)) <= 1e-12
    centred = rows - rows.mean(axis=0)
    own = np.cov(rows.T)
    inner = np.sum(own * cov)
    slope = np.trace(cov) / inner * centred - np.trace(own) * np.trace(cov) / inner**2 * centred @ cov
    expected = -4 / ((len(rows) - 1) * (dim - 1)) * slope.reshape(states.shape)
    got = differentiable.gradient(lambda x: iso.istar_loss(x, cov, estimator="anchored"), X)
    assert np.abs(got - expected).max() <= 1e-10 * np.abs(expected).max()


def test_anchored_is_the_score_itself_at_the_anchor(differentiable: Adapter, rng: np.random.Generator) -> None:
    """Value and gradient of s(S, S) at Σ_S = S."""
    points = states_of(rng, (10, 8, 12)).reshape(-1, 12)
    X, cov = differentiable.native(points), np.cov(points.T)
    anchored, own = (
        differentiable.gradient(lambda x, settings=settings: iso.istar_loss(x, cov, **settings), X)
        for settings in ({"estimator": "anchored"}, {"zeta": 0.0})
    )
    assert np.abs(anchored - own).max() <= 1e-10 * np.abs(own).max()
    value = differentiable.value(lambda x: iso.istar_loss(x, cov, estimator="anchored"), X)
    assert abs(1 - value - reference.isoscore_star(points)) <= 1e-12


def test_anchored_without_spread_is_the_anchors_score(differentiable: Adapter) -> None:
    cov = np.diag(np.arange(1.0, 9.0))
    X = differentiable.native(np.full((4, 5, 8), 3.0))
    function = lambda x: iso.istar_loss(x, cov, estimator="anchored")  # noqa: E731
    assert abs(1 - differentiable.value(function, X) - iso.isoscore_from_cov(cov)) <= 1e-12
    assert not differentiable.gradient(function, X).any()


def test_anchored_needs_an_anchor(backend: Adapter, rng: np.random.Generator) -> None:
    X = backend.native(rng.normal(size=(10, 4)))
    with pytest.raises(iso.InvalidValueError, match="Give one"):
        backend.value(lambda x: iso.istar_loss(x, estimator="anchored"), X)
