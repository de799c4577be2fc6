"""Calls that no one should make: each must raise an error of the library's own, never a foreign one."""

from __future__ import annotations

import fractions
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from adapters import Adapter
from fuzz import wrong_things as things
from fuzz.verdict import MUST_RAISE, Call

import isoscore_star as iso


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
        extra = (things.ragged(), things.lists(), things.structured())
        thing = _pick(rng, (*things.NO_POINTS, *extra), adapter)
        return f"X of {name}: {_named(thing)}", lambda: function(thing)
    if which == 2:
        zeta = _pick(rng, things.NO_NUMBERS)
        return f"zeta of {star.__name__}: {_named(zeta)}", lambda: star(X, cov, zeta)
    if which == 3:
        zeta = (2.0, -1.0, np.nan, np.inf)[rng.integers(4)]
        native = adapter.native(np.array([zeta]))[0]
        return f"native zeta of isoscore_star: {zeta}", lambda: iso.isoscore_star(X, cov, native)
    if which == 4:
        # Any finite number is a λ.
        lam = _pick(rng, tuple(n for n in things.NO_NUMBERS if not _finite(n)))
        return f"lam: {_named(lam)}", lambda: iso.istar_loss(X, cov, 0.2, lam)
    if which == 5:
        given = _pick(rng, things.NO_COVS, adapter)
        if rng.random() < 0.3:
            return f"shrinkage_cov of Moments: {_named(given)}", lambda: _moments(X).isoscore_star(given, 0.5)
        if rng.random() < 0.3:
            return f"shrinkage_cov of measure: {_named(given)}", lambda: iso.measure(X, given, 0.5)
        return f"shrinkage_cov: {_named(given)}", lambda: iso.isoscore_star(X, given, 0.5)
    if which == 6:
        given = _pick(rng, (*things.NO_COVS[:-2], None), adapter)
        return f"cov: {_named(given)}", lambda: iso.isoscore_from_cov(given)
    if which == 7 and adapter.name == "torch" and rng.random() < 0.2:
        return _tensors_that_want_gradients(rng, X)
    if which == 7:
        given = _pick(rng, things.NO_SPECTRA, adapter)
        return f"eigenvalues: {_named(given)}", lambda: iso.isoscore_from_spectrum(given)
    if which == 8:
        word = _pick(rng, things.NO_WORDS)
        return f"estimator: {_named(word)}", lambda: iso.istar_loss(X, cov, 0.2, estimator=word)
    if which == 9:
        name, function = _measuring(rng)
        mask = _pick(rng, things.masks(12), adapter)
        return f"mask of {name}: {_named(mask)}", lambda: function(X, mask=mask)
    if which == 10:
        groups = _pick(rng, things.groups(12))
        return f"groups of measure: {_named(groups)}", lambda: iso.measure(X, groups=groups)
    if which == 11:
        function = (iso.participation_ratio, iso.score_from_participation_ratio)[rng.integers(2)]
        if rng.random() < 0.5:
            d = _pick(rng, things.NO_DIMENSIONS)
            return f"d of {function.__name__}: {_named(d)}", lambda: function(0.5, d)
        score = _pick(rng, things.NO_SCORES)
        return f"score of {function.__name__}: {_named(score)}", lambda: function(score, 4)
    if which == 12:
        name = _pick(rng, things.NO_NAMES)
        return f"name of get_backend: {_named(name)}", lambda: iso.get_backend(name)
    if rng.random() < 0.5:
        other = _pick(rng, (None, 3, "a", [], {}, things.Thing(), np.eye(3)))
        return f"other of merge: {_named(other)}", lambda: _moments(X).merge(other)
    thing = _pick(rng, tuple(thing for thing in things.NO_POINTS if thing is not things.PLAIN_LISTS), adapter)
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
