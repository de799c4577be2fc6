"""The algebra of merging in exact rational numbers, against the sums of all points written out."""

from __future__ import annotations

import operator
from fractions import Fraction

import numpy as np
import pytest

from isoscore_star.core.merging import Operations, Sums, merge
from isoscore_star.core.scaling import where_known

EXACT = Operations(where_known, operator.matmul, np.trace, lambda vector: np.abs(vector).max())
DIM = 3


def sums_of(rows: np.ndarray, unit: Fraction, anchor: np.ndarray) -> Sums:
    if not len(rows):
        zeros = np.array([Fraction(0)] * DIM)
        return Sums(Fraction(0), Fraction(0), zeros, zeros, np.outer(zeros, zeros), zeros, Fraction(0))
    mean = sum(rows) / Fraction(len(rows))
    x = (rows - mean) / unit
    norms = (x * x).sum(1)
    return Sums(Fraction(len(rows)), unit, anchor, (mean - anchor) / unit, x.T @ x, norms @ x, (norms * norms).sum())


@pytest.mark.parametrize("cut", [0, 1, 4, 9, 10])
@pytest.mark.parametrize(
    "units", [(Fraction(1), Fraction(1)), (Fraction(1, 64), Fraction(7)), (Fraction(99), Fraction(1))]
)
def test_merged_sums_are_those_of_all_points(cut: int, units: tuple[Fraction, Fraction]) -> None:
    numbers = np.random.default_rng(cut).integers(-20, 20, size=(10, DIM))
    rows = np.array([[Fraction(int(n), 7) for n in row] for row in numbers])
    ours, theirs = sums_of(rows[:cut], units[0], rows[0]), sums_of(rows[cut:], units[1], rows[-1])
    before = theirs.scatter.copy()
    merge(ours, theirs, EXACT)
    assert (theirs.scatter == before).all()
    expected = sums_of(rows, ours.unit, ours.anchor)
    for name, value in vars(expected).items():
        assert np.all(getattr(ours, name) == value), name
    given = [unit for unit, part in zip(units, (rows[:cut], rows[cut:]), strict=True) if len(part)]
    assert ours.unit >= max(given)
    assert any((ours.anchor == row).all() for row in (rows[0], rows[-1]))


def test_merging_without_the_fourth_order() -> None:
    rows = np.array([[Fraction(i * i), Fraction(i), Fraction(1)] for i in range(6)])
    ours, theirs = sums_of(rows[:2], Fraction(1), rows[0]), sums_of(rows[2:], Fraction(1), rows[2])
    ours.third = ours.fourth = None
    merge(ours, theirs, EXACT)
    assert ours.third is None
    assert (ours.scatter == sums_of(rows, ours.unit, rows[0]).scatter).all()


def test_two_empty_clouds() -> None:
    nobody = np.empty((0, DIM))
    ours = sums_of(nobody, Fraction(0), nobody)
    merge(ours, sums_of(nobody, Fraction(0), nobody), EXACT)
    assert (ours.count, ours.unit) == (0, 0)
    assert not ours.scatter.any()
    assert not ours.offset.any()
