"""What a call may answer, and whether it did: a number within a bound, an error of the library's own, or NaN."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

import isoscore_star as iso


class Expected(NamedTuple):
    """The right answer.

    Attributes
    ----------
    value : number or array, optional
        What is right; None where an error is, NaN where NaN is.
    bound : float
        Largest absolute error; infinite where half the value is enough (see `truth.Sample.unbiased`).
    error : {"no", "may", "must"}
        Whether an error of the library's own is an answer too.
    nan : bool
        Whether NaN or infinity is an answer too (a loss that cannot look at values, outside the declared range).
    different : bool
        Whether an error must not say that the points are identical, as they are not.
    inside : bool
        Whether this lies inside the declared range.
    """

    value: Any
    bound: float = 0.0
    error: Literal["no", "may", "must"] = "no"
    nan: bool = False
    different: bool = False
    inside: bool = True


Call = tuple[str, Callable[[], Any], Expected]
"""What a call is named, the call itself, and the right answer."""


class Outcome(NamedTuple):
    """How a call ended: `error` names an error of the library's own, `failure` says what is wrong."""

    worst: float = 0.0
    error: str | None = None
    failure: str | None = None


MUST_RAISE = Expected(None, error="must")


def outcome(call: Callable[[], Any], expected: Expected) -> Outcome:
    """Make a call, with every warning an exception, and judge what comes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = call()
    except iso.IsoScoreError as error:
        return _judged_error(error, expected)
    except Warning as warning:
        return Outcome(failure=f"warning {type(warning).__name__}: {_short(warning)}")
    except Exception as error:
        return Outcome(failure=f"foreign {type(error).__name__}: {_short(error)}")
    if expected.error == "must":
        return Outcome(failure=f"no error, but {_short(got)}")
    return _judged_value(np.asarray(got), expected)


def _judged_error(error: iso.IsoScoreError, expected: Expected) -> Outcome:
    name, text = type(error).__name__, str(error)
    if expected.error == "no":
        return Outcome(failure=f"refused: {name}: {_short(text)}")
    if not isinstance(error, (ValueError, TypeError)) or not text:
        return Outcome(failure=f"error {name} is no ValueError or TypeError, or says nothing")
    if expected.different and "identical" in text:
        return Outcome(failure=f"points that differ are called identical: {_short(text)}")
    return Outcome(error=name)


def _judged_value(got: np.ndarray, expected: Expected) -> Outcome:
    right = np.asarray(expected.value)
    if got.shape != right.shape:
        return Outcome(failure=f"shape {got.shape} for {right.shape}")
    if got.dtype.kind != "f":
        return Outcome(failure=f"dtype {got.dtype}")
    if np.isnan(right).any():
        return Outcome() if np.isnan(got).any() else Outcome(failure=f"{_short(got)} for NaN")
    if not np.isfinite(got).all():
        return Outcome() if expected.nan else Outcome(failure=f"{_short(got)} for {_short(right)}")
    off = float(abs(got.astype(np.longdouble) - right).max()) if right.size else 0.0
    if math.isinf(expected.bound):
        good = off <= 0.5 * abs(float(right)) if np.isfinite(right) else False
        return Outcome() if good else Outcome(failure=f"rubbish {_short(got)} for {_short(right)}")
    worst = off / expected.bound if off else 0.0
    if worst > 1:
        what = f"off by {off:.2g} (bound {expected.bound:.2g})"
        return Outcome(worst, failure=f"{what}: {_short(got)} for {_short(right)}" if right.ndim == 0 else what)
    return Outcome(worst)


def _short(thing: Any) -> str:
    text = f"{float(thing):.17g}" if isinstance(thing, np.ndarray) and thing.ndim == 0 else str(thing)
    text = " ".join(text.split())
    return text if len(text) <= 240 else text[:240] + " ..."
