"""What no one should give for points, numbers, words, covariances, masks and labels."""

from __future__ import annotations

import fractions
from typing import Any

import numpy as np

import isoscore_star as iso


class Thing:
    """An object that is nothing; its string is long, as some are."""

    def __repr__(self) -> str:
        return "Thing" * 3


def ragged() -> np.ndarray:
    rows = np.empty(3, object)
    rows[:] = [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]
    return rows


def lists() -> np.ndarray:
    rows = np.empty(4, object)
    rows[:] = [[1.0, 2.0], [3.0, 1.0], [4.0, 5.0], [0.0, 1.0]]
    return rows


def structured() -> np.ndarray:
    return np.zeros(4, dtype=[("x", "f8"), ("y", "f8")])


PLAIN_LISTS = [
    [1.0, 2.0],
    [3.0, 4.0],
]  # a union of two vectors of no framework; to the reference, which is NumPy's, rows

# Nothing of this is a cloud, whatever the framework.
NO_POINTS: tuple[Any, ...] = (
    None,
    3.0,
    10**400,
    "text",
    b"bytes",
    {},
    {"a": np.zeros((3, 2))},
    set(),
    [],
    (),
    [[]],
    [None],
    [1.0, 2.0],
    PLAIN_LISTS,
    [[1.0, 2.0], [3.0]],
    ["a", "b"],
    [np.zeros((3, 2)), None],
    [np.zeros((3, 2)), "a"],
    [np.eye(3), np.eye(4)],
    [[np.eye(3)]],
    Thing(),
    object,
    iso,
    lambda x: x,
    iter([1, 2]),
    range(5),
    slice(3),
    np.float64(3.0),
    np.array("text"),
    np.array([["a", "b"], ["c", "d"], ["e", "f"]]),
    np.array([[b"a", b"b"], [b"c", b"d"]]),
    np.array([[1, None], [2, 3]], dtype=object),
    np.array([[10**400, 1], [2, 3], [1, 5]], dtype=object),
    np.array([["2020-01-01", "2021-01-01"]] * 3, dtype="datetime64[D]"),
    np.array([[1, 2], [3, 4], [5, 7]], dtype="timedelta64[s]"),
    np.array([[True, False], [False, True], [True, True]]),
    np.eye(4) * 1j,
    np.zeros((0, 0)),
    np.zeros((5, 0)),
    np.zeros((0, 5)),
    np.zeros((5, 1)),
    np.zeros(5),
    np.zeros(()),
    np.zeros((2, 0, 3)),
    np.zeros((1, 1, 1, 1, 5)),
    np.full((4, 3), np.nan),
    np.full((4, 3), np.inf),
    np.array([[1.0, np.inf], [2.0, -np.inf], [3.0, 1.0]]),
    np.ones((4, 3)),
    np.ma.masked_array(np.eye(3), np.eye(3) > 0),
    fractions.Fraction(1, 3),
)
NO_NUMBERS: tuple[Any, ...] = (
    10**400,
    -(10**400),
    fractions.Fraction(10**400, 3),
    -0.1,
    1.1,
    2,
    np.nan,
    np.inf,
    -np.inf,
    np.float32("nan"),
    np.float64(7),
    "0.2",
    b"1",
    None,
    True,
    np.True_,
    1j,
    [],
    [0.2],
    (0.2,),
    {},
    Thing(),
    np.array([0.2]),
    np.array([0.2, 0.3]),
    np.array(np.nan),
    np.array(5.0),
    np.array("a"),
    np.array(1j),
    np.array(True),
    np.array(None),
    np.array(10**400, dtype=object),
    np.array([]),
)
NO_WORDS: tuple[Any, ...] = (
    "both",
    "",
    None,
    0,
    1.5,
    True,
    [],
    ["shrinkage"],
    {},
    np.array(["shrinkage", "unbiased"]),
    np.array([]),
    np.array([1.0, 2.0]),
    Thing(),
    b"shrinkage",
)
NO_COVS: tuple[Any, ...] = (
    3.0,
    "text",
    [[1.0, 0.0], [0.0, 1.0]],
    {},
    Thing(),
    np.zeros((3, 3)),
    np.ones((3, 4)),
    np.ones(3),
    np.zeros((0, 0)),
    np.ones((1, 1)),
    np.zeros((3, 3, 3)),
    np.full((3, 3), np.nan),
    np.full((3, 3), np.inf),
    np.eye(3) - 2,
    np.diag([1.0, -1.0, 1.0]),
    np.array([[1.0, 5.0, 0], [5.0, 1.0, 0], [0, 0, 1.0]]),
    np.triu(np.ones((3, 3))),
    np.eye(3) * 1j,
    np.eye(3) > 0,
    np.eye(3).astype(str),
    np.eye(3).astype(object),
    np.eye(5),
    np.array([[1.0, np.nan, 0], [np.nan, 1.0, 0], [0, 0, 1.0]]),
)
NO_DIMENSIONS: tuple[Any, ...] = (1, 0, -3, 2.5, 4.0, "4", None, True, np.nan, [], np.array([4, 5]), 1j, -(10**400))
NO_SCORES: tuple[Any, ...] = (
    "a",
    None,
    [],
    {},
    [0.5],
    Thing(),
    1j,
    b"1",
    np.nan,
    np.inf,
    True,
    10**400,
    np.array("a"),
    np.array([0.5, 0.6], dtype=object),
)
NO_NAMES: tuple[Any, ...] = ([], {}, set(), None, 3, "nothing", "", np.zeros(3), ["numpy"], Thing(), b"numpy", "../x")
NO_SPECTRA: tuple[Any, ...] = (
    [],
    [1.0],
    [0.0, 0.0],
    [1.0, -1.0],
    [np.nan, 1.0],
    [np.inf, 1.0],
    ["a", "b"],
    [None, 1.0],
    [[1.0, 2.0], [3.0]],
    [[1.0, 2.0], [3.0, 4.0]],
    [10**400, 1],
    [1j, 1.0],
    [True, False],
    "text",
    3.0,
    None,
    {},
    Thing(),
    np.zeros(0),
    np.ones((2, 2)),
    np.array(1.0),
    np.array(["1", "2"]),
    (1.0, "a"),
    [1.0, Thing()],
    [np.ones(2), np.ones(3)],
)


def masks(m: int) -> tuple[Any, ...]:
    good = np.ones(m)
    return (
        np.ones(m + 1),
        np.ones((m, 1)),
        np.ones((1, m)),
        np.ones(()),
        np.full(m, 0.5),
        np.full(m, 2),
        np.full(m, -1),
        np.where(np.arange(m) < 3, 0.0, -np.inf),
        np.full(m, np.nan),
        np.zeros(m),
        np.full(m, "x"),
        good.astype(object),
        good * 1j,
        [1] * m,
        tuple([True] * m),
        [good],
        [good, good],
        "mask",
        3.0,
        1,
        True,
        {},
        Thing(),
        np.ones((0,)),
        good.astype("datetime64[s]"),
    )


def groups(m: int) -> tuple[Any, ...]:
    return (
        np.arange(m - 1),
        np.arange(m)[:, None],
        [np.arange(m)] * 2,
        [[1, 2], [3]],
        [1, "a", None],
        [[1], 2],
        "auto text",
        3.5,
        {},
        Thing(),
        np.zeros(()),
        np.full(m - 1, None, object),
        [],
        10**400,
    )
