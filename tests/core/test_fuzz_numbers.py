"""The short form of the fuzzer of numeric calls, and that its truths are true and its verdicts can fail."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from fuzz import calls, truth
from fuzz.truth import L, Sample
from fuzz.verdict import MUST_RAISE, Expected, outcome

import isoscore_star as iso

# Cases for each backend: some four calls each, as many as take a second or two.
CASES = {
    "numpy": 200,
    "autograd": 100,
    "torch": 120,
    "tensorflow": 60,
    "jax": 8,
    "jax without x64": 6,
    "keras": 40,
}

pytestmark = pytest.mark.skipif(not truth.PRECISE, reason="long double is no longer than float64 here")


@pytest.mark.parametrize("name", calls.TARGETS)
def test_no_drawn_call_fails(name: str) -> None:
    if calls.TARGETS[name].adapter not in iso.available_backends():
        pytest.skip(f"{name} is not installed")
    target = calls.TARGETS[name]
    if target.shapes:  # compiling takes longer than all the rest
        target = target._replace(shapes=((12, 4), (6, 8)), dtypes=target.dtypes[:1])
    drawn = (calls.run(name, 0, case, target=target, largest=20_000) for case in range(CASES[name]))
    records = [record for case in drawn for record in case]
    failed = [f"case {r.case}: {r.function}: {r.what}: {r.outcome.failure}" for r in records if r.outcome.failure]
    assert not failed, "\n".join(failed)
    assert sum(record.outcome.error is None for record in records) > CASES[name]  # not errors alone


def exact(points: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(x)) for x in row] for row in points]


@pytest.mark.parametrize("far", [0.0, 1e8, 1e15])
def test_the_score_is_that_of_exact_arithmetic(far: float) -> None:
    points = np.random.default_rng(1).normal(size=(9, 3)) + far
    rows = exact(points)
    centre = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    rows = [[x - c for x, c in zip(row, centre, strict=True)] for row in rows]
    scatter = [[sum(row[i] * row[j] for row in rows) for j in range(3)] for i in range(3)]
    t, f = sum(scatter[i][i] for i in range(3)), sum(x * x for row in scatter for x in row)
    # Some ε of long double, 1e-19, in each step; ten at most. As a float64, half an ε more.
    assert float(Sample(points).score()) == pytest.approx(float((t * t / f - 1) / 2), rel=3e-16)


def test_the_unbiased_score_is_the_mean_over_all_quadruples() -> None:
    points = np.random.default_rng(2).integers(-9, 10, size=(6, 3)).astype(float)
    rows = exact(points)

    def inner(i: int, j: int, k: int, l: int) -> Fraction:  # noqa: E741
        pairs = zip(rows[i], rows[j], rows[k], rows[l], strict=True)
        return sum(((a - b) * (c - d) for a, b, c, d in pairs), Fraction(0))

    # (x−y)(x−y)ᵀ/2 of two points is an unbiased covariance; of two independent pairs, tr(AB) and tr A·tr B.
    square = trace = Fraction(0)
    for i, j, k, l in permutations(range(6), 4):  # noqa: E741
        square += inner(i, j, k, l) ** 2
        trace += inner(i, j, i, j) * inner(k, l, k, l)
    value, _ = Sample(points).unbiased(0.0)
    assert float(value) == pytest.approx(float((trace / square - 1) / 2), rel=1e-15)


@pytest.mark.parametrize("m", [4, 12])
@pytest.mark.parametrize("kind", ["plain", "with a target", "unbiased", "floored"])
def test_gradients_are_those_of_differences(kind: str, m: int) -> None:
    rng = np.random.default_rng(3)
    points, direction, target = rng.normal(size=(m, 5)), rng.normal(size=(m, 5)), np.diag(rng.gamma(1.0, size=5))
    if kind == "floored":  # tr(Σ²) of orthogonal differences is zero
        points, direction = np.eye(m, 5) + points * 1e-3, np.zeros((m, 5))
        direction[0, 0] = 1.0
    floored = kind == "floored"

    def value(sample: Sample) -> L:
        if kind in ("unbiased", "floored"):
            return sample.unbiased(0.0, floored=floored)[0]
        return sample.score(target, 0.3) if kind == "with a target" else sample.score()

    sample = Sample(points)
    assert (sample.squares[1] < sample.floor) == floored
    if kind in ("unbiased", "floored"):
        gradient, _ = sample.unbiased_gradient(floored=floored)
    else:
        gradient, _ = sample.score_gradient(*((target, 0.3) if kind == "with a target" else ()))
    step = 2.0**-18
    ahead, behind = Sample(points + step * direction), Sample(points - step * direction)
    # Central differences err by h²/6 times the third derivative, here some hundreds: 1e-9; by rounding of x ± h 1e-11.
    assert float((gradient * direction).sum()) == pytest.approx(
        float((value(ahead) - value(behind)) / (2 * step)), rel=1e-6, abs=1e-7
    )


def test_the_bound_of_the_unbiased_score_covers_wrong_sums() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        sample, eta = Sample(rng.normal(size=(int(rng.integers(4, 40)), 6)) ** 3), 1e-6
        value, bound = sample.unbiased(eta)
        m = L(sample.n)
        t, f, q = (x * (1 + eta * rng.choice([-1, 1])) for x in (sample.t, sample.f, sample.q))
        ratio = (2 * f + (m * m - 3 * m + 1) * t * t - m * q) / ((m - 1) * (m - 2) * f + t * t - m * q)
        assert abs((ratio - 1) / 5 - value) <= bound


def test_bfloat16_is_rounded_to_even() -> None:
    values = np.array([1.0, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, -(1.0 + 2.0**-8 + 2.0**-20), 3e38, np.inf, np.nan])
    expected = [1.0, 1.0, 1.0 + 2.0**-6, -(1.0 + 2.0**-7), 226 * 2.0**120, np.inf, np.nan]
    np.testing.assert_array_equal(truth.rounded(values, "bfloat16"), expected)


def warn() -> float:
    warnings.warn("leaks", RuntimeWarning, stacklevel=1)
    return 0.5


def refuse() -> float:
    raise iso.DegenerateDataError("X: all 3 points are identical (zero variance)")


def foreign() -> float:
    raise OverflowError("int too large")


RIGHT = Expected(L(0.5), 1e-12)


@pytest.mark.parametrize(
    ("call", "expected", "message"),
    [
        (lambda: 0.5, RIGHT, None),
        (lambda: 0.5 + 2e-12, RIGHT, "off by"),
        (lambda: np.nan, RIGHT, "nan for 0.5"),
        (lambda: np.nan, RIGHT._replace(nan=True), None),
        (lambda: 0.5, Expected(np.nan), "0.5 for NaN"),
        (lambda: np.array([0.5]), RIGHT, "shape"),
        (lambda: 1, RIGHT, "dtype"),
        (lambda: 0.2, RIGHT._replace(bound=np.inf), "rubbish"),
        (lambda: 0.7, RIGHT._replace(bound=np.inf), None),
        (warn, RIGHT, "warning RuntimeWarning: leaks"),
        (foreign, RIGHT, "foreign OverflowError"),
        (foreign, MUST_RAISE, "foreign OverflowError"),
        (refuse, RIGHT, "refused"),
        (refuse, RIGHT._replace(error="may"), None),
        (refuse, RIGHT._replace(error="may", different=True), "called identical"),
        (refuse, MUST_RAISE, None),
        (lambda: 0.5, MUST_RAISE, "no error"),
    ],
)
def test_verdicts(call: object, expected: Expected, message: str | None) -> None:
    failure = outcome(call, expected).failure
    assert failure is None if message is None else failure is not None and message in failure


def test_a_case_is_drawn_again_alike() -> None:
    first, second = ([(r.function, r.what, r.outcome) for r in calls.run("numpy", 7, 3)] for _ in range(2))
    assert first == second
