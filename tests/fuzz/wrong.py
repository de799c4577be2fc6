"""Calls that no one should make: each must raise an error of the library's own, never a foreign one."""

from __future__ import annotations

import fractions
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from adapters import Adapter
from fuzz.scores import Call
from fuzz.verdict import MUST_RAISE

import isoscore_star as iso


class Thing:
    """An object that is nothing; its string is long, as some are."""

    def __repr__(self) -> str:
        return "Thing" * 3


def _ragged() -> np.ndarray:
    rows = np.empty(3, object)
    rows[:] = [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]
    return rows


def _lists() -> np.ndarray:
    rows = np.empty(4, object)
    rows[:] = [[1.0, 2.0], [3.0, 1.0], [4.0, 5.0], [0.0, 1.0]]
    return rows


def _structured() -> np.ndarray:
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
    fractions.Fraction(-1, 10**400),
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


def _masks(m: int) -> tuple[Any, ...]:
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


def _groups(m: int) -> tuple[Any, ...]:
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


def _measuring(rng: np.random.Generator) -> tuple[str, Callable[..., Any]]:
    functions: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("isoscore", iso.isoscore),
        ("isoscore_star", lambda x, **k: iso.isoscore_star(x, None, 0.0, **k)),
        ("isoscore_unbiased", iso.isoscore_unbiased),
        ("istar_loss checked", lambda x, **k: iso.istar_loss(x, None, 0.0, check_values=True, **k)),
        ("measure", iso.measure),
        ("Moments", lambda x, **k: iso.Moments().update(x, **k).isoscore()),
    )
    return functions[rng.integers(len(functions))]


def calls(adapter: Adapter, rng: np.random.Generator) -> Iterator[Call]:
    """Draw some calls with one wrong argument each."""
    points = rng.normal(size=(12, 3))
    X = adapter.native(points)
    cov = np.eye(3)
    for _ in range(4):
        name, call = _one(adapter, rng, X, cov)
        yield f"bad {name}", call, MUST_RAISE


def _pick(rng: np.random.Generator, things: tuple[Any, ...], adapter: Adapter | None = None) -> Any:
    thing = things[rng.integers(len(things))]
    if adapter is not None and isinstance(thing, np.ndarray) and thing.dtype.kind in "fiuc" and rng.random() < 0.5:
        return adapter.native(np.ascontiguousarray(thing)) if type(thing) is np.ndarray else thing
    return thing


def _one(adapter: Adapter, rng: np.random.Generator, X: Any, cov: np.ndarray) -> tuple[str, Callable[[], Any]]:
    which = rng.integers(14)
    star = (iso.isoscore_star, iso.istar_loss)[rng.integers(2)]
    if which <= 1:
        name, function = _measuring(rng)
        extra = (_ragged(), _lists(), _structured())
        thing = _pick(rng, (*NO_POINTS, *extra), adapter)
        return f"X of {name}: {_named(thing)}", lambda: function(thing)
    if which == 2:
        zeta = _pick(rng, NO_NUMBERS)
        return f"zeta of {star.__name__}: {_named(zeta)}", lambda: star(X, cov, zeta)
    if which == 3:
        zeta = (2.0, -1.0, np.nan, np.inf)[rng.integers(4)]
        native = adapter.native(np.array([zeta]))[0]
        return f"native zeta of isoscore_star: {zeta}", lambda: iso.isoscore_star(X, cov, native)
    if which == 4:
        # Any finite number is a λ.
        lam = _pick(rng, tuple(n for n in NO_NUMBERS if not _finite(n)))
        return f"lam: {_named(lam)}", lambda: iso.istar_loss(X, cov, 0.2, lam)
    if which == 5:
        given = _pick(rng, NO_COVS, adapter)
        if rng.random() < 0.3:
            return f"shrinkage_cov of Moments: {_named(given)}", lambda: _moments(X).isoscore_star(given, 0.5)
        if rng.random() < 0.3:
            return f"shrinkage_cov of measure: {_named(given)}", lambda: iso.measure(X, given, 0.5)
        return f"shrinkage_cov: {_named(given)}", lambda: iso.isoscore_star(X, given, 0.5)
    if which == 6:
        given = _pick(rng, (*NO_COVS[:-2], None), adapter)
        return f"cov: {_named(given)}", lambda: iso.isoscore_from_cov(given)
    if which == 7 and adapter.name == "torch" and rng.random() < 0.2:
        return _tensors_that_want_gradients(rng, X)
    if which == 7:
        given = _pick(rng, NO_SPECTRA, adapter)
        return f"eigenvalues: {_named(given)}", lambda: iso.isoscore_from_spectrum(given)
    if which == 8:
        word = _pick(rng, NO_WORDS)
        return f"estimator: {_named(word)}", lambda: iso.istar_loss(X, cov, 0.2, estimator=word)
    if which == 9:
        name, function = _measuring(rng)
        mask = _pick(rng, _masks(12), adapter)
        return f"mask of {name}: {_named(mask)}", lambda: function(X, mask=mask)
    if which == 10:
        groups = _pick(rng, _groups(12))
        return f"groups of measure: {_named(groups)}", lambda: iso.measure(X, groups=groups)
    if which == 11:
        function = (iso.participation_ratio, iso.score_from_participation_ratio)[rng.integers(2)]
        if rng.random() < 0.5:
            d = _pick(rng, NO_DIMENSIONS)
            return f"d of {function.__name__}: {_named(d)}", lambda: function(0.5, d)
        score = _pick(rng, NO_SCORES)
        return f"score of {function.__name__}: {_named(score)}", lambda: function(score, 4)
    if which == 12:
        name = _pick(rng, NO_NAMES)
        return f"name of get_backend: {_named(name)}", lambda: iso.get_backend(name)
    if rng.random() < 0.5:
        other = _pick(rng, (None, 3, "a", [], {}, Thing(), np.eye(3)))
        return f"other of merge: {_named(other)}", lambda: _moments(X).merge(other)
    thing = _pick(rng, tuple(thing for thing in NO_POINTS if thing is not PLAIN_LISTS), adapter)
    return f"X of reference: {_named(thing)}", lambda: iso.reference.isoscore_star(thing)


def _tensors_that_want_gradients(rng: np.random.Generator, X: Any) -> tuple[str, Callable[[], Any]]:
    """Lists of them where one array is meant: NumPy makes none of these."""
    import torch

    vectors = [torch.arange(3.0) + i for i in range(12)]
    scalars = [torch.tensor(float(i)) for i in range(12)]
    for tensor in (*vectors, *scalars):
        tensor.requires_grad_()
    calls: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("X of isoscore", lambda: iso.isoscore(vectors)),
        ("X of measure", lambda: iso.measure(vectors)),
        ("X of reference", lambda: iso.reference.isoscore_star(vectors)),
        ("mask of isoscore", lambda: iso.isoscore(X, mask=scalars)),
        ("shrinkage_cov", lambda: iso.isoscore_star(X, vectors[:3], 0.5)),
        ("cov", lambda: iso.isoscore_from_cov(vectors[:3])),
        ("eigenvalues", lambda: iso.isoscore_from_spectrum([*scalars, vectors[0]])),
        ("groups", lambda: iso.measure(X, groups=[*scalars[:-1]])),
    )
    name, call = calls[rng.integers(len(calls))]
    return f"{name}: a list of tensors that want gradients", call


def _moments(X: Any) -> iso.Moments:
    return iso.Moments().update(X)


def _finite(number: Any) -> bool:
    if isinstance(number, (bool, np.bool_)):
        return False
    if isinstance(number, np.ndarray):
        return number.shape == () and number.dtype.kind == "f" and bool(np.isfinite(number))
    try:
        return isinstance(number, (int, float, np.floating, fractions.Fraction)) and bool(np.isfinite(float(number)))
    except OverflowError:
        return False


def _named(thing: Any) -> str:
    """Name a thing shortly: big integers by their length."""
    if isinstance(thing, int) and abs(thing) > 10**20:
        return "an integer of 400 digits"
    if isinstance(thing, fractions.Fraction):
        return "a fraction"
    text = " ".join(repr(thing).split()) if not callable(thing) else "something callable"
    return text if len(text) < 60 else f"{type(thing).__name__} {text[:40]} ..."
