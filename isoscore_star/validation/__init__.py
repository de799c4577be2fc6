"""Every installed backend, on every device and in every precision of this machine, against the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from isoscore_star import Backend, InvalidValueError, available_backends, get_backend
from isoscore_star.validation._adapters import ADAPTERS, Adapter
from isoscore_star.validation._cases import Case, all_cases

__all__ = ["ADAPTERS", "TOLERANCES", "Adapter", "Check", "Tolerance", "validate"]


class Tolerance(NamedTuple):
    """Largest error allowed: of the value, absolute; of the gradient, relative to its largest entry."""

    value: float
    gradient: float


# Float32's gradient is a difference, r·x − r²·Σx, whose terms are at most about twice as large as itself in these
# cases: ten times the value's tolerance is enough. Half precision is computed in float32 or better, so its gradient has
# that error and that of rounding the result: 2⁻⁸ for bfloat16, 2⁻¹¹ for float16.
TOLERANCES = {
    "float64": Tolerance(1e-12, 1e-10),
    "float32": Tolerance(1e-5, 1e-4),
    "bfloat16": Tolerance(1e-3, 1e-4 + 2**-8),
    "float16": Tolerance(1e-3, 1e-4 + 2**-11),
}


@dataclass(frozen=True)
class Check:
    """Outcome for one backend, device and dtype.

    Attributes
    ----------
    backend, device, dtype : str
        Device and dtype are empty if the backend could not be loaded.
    cases : int
        Number of clouds, without those whose values the dtype cannot hold.
    value_error : float
        Largest absolute error of a score.
    gradient_error : float or None
        Largest error of a gradient entry, relative to the largest; None for a backend without gradients.
    tolerance : Tolerance
        The largest errors that are allowed.
    worst : str
        The case with the largest ratio of error to tolerance.
    failure : str or None
        The exception, if one was raised.
    """

    backend: str
    device: str
    dtype: str
    cases: int
    value_error: float
    gradient_error: float | None
    tolerance: Tolerance
    worst: str = ""
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every error is within its tolerance (NaN is not)."""
        gradient_fine = self.gradient_error is None or self.gradient_error <= self.tolerance.gradient
        return self.failure is None and self.cases > 0 and self.value_error <= self.tolerance.value and gradient_fine

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON; infinite errors and NaN as None."""
        plain = asdict(self) | {"tolerance": self.tolerance._asdict(), "passed": self.passed}
        for name in ("value_error", "gradient_error"):
            if plain[name] is not None and not np.isfinite(plain[name]):
                plain[name] = None
        return plain


def validate(backends: Iterable[str] | None = None) -> list[Check]:
    """Compare values and gradients with Algorithm 1 and its derivative, computed in float64 without any backend.

    Parameters
    ----------
    backends : iterable of str, optional
        Names of backends; by default all installed ones that have an adapter (`ADAPTERS`).

    Returns
    -------
    list of Check
        One for each backend, device and dtype that exist. An exception of a backend is a failed check.

    Examples
    --------
    >>> from isoscore_star.validation import validate
    >>> [check.passed for check in validate(["numpy"])]
    [True, True, True]
    """
    names = [name for name in available_backends() if name in ADAPTERS] if backends is None else backends
    return [check for name in names for check in _checks_of(name)]


def _checks_of(name: str) -> Iterator[Check]:
    try:
        backend = get_backend(name)
        if name not in ADAPTERS:
            raise InvalidValueError(
                "backends", f"validation has no adapter for {name!r}. Put one into isoscore_star.validation.ADAPTERS"
            )
        devices = ADAPTERS[name].devices()
    except Exception as error:  # a broken installation is a result, too
        yield _failed(name, "", "", error)
        return
    for device in devices:
        for dtype in TOLERANCES:
            if _has(ADAPTERS[name], dtype, device):
                yield _check(backend, device, dtype)


def _has(adapter: Adapter, dtype: str, device: str) -> bool:
    try:
        adapter.native(np.ones((2, 2)), dtype, device)
    except Exception as error:  # all but a TypeError are raised again in the check, which reports them
        return not isinstance(error, TypeError)
    return True


def _check(backend: Backend, device: str, dtype: str) -> Check:
    errors: dict[str, tuple[float, float | None]] = {}
    for case in all_cases():
        try:
            pair = _errors(case, backend, device, dtype)
        except Exception as error:
            return _failed(backend.name, device, dtype, error, f" (case: {case.name})")
        if pair is not None:
            errors[case.name] = pair
    tolerance = TOLERANCES[dtype]
    values = [value for value, _ in errors.values()]
    gradients = [gradient for _, gradient in errors.values() if gradient is not None]
    return Check(
        backend=backend.name,
        device=device,
        dtype=dtype,
        cases=len(errors),
        value_error=float(np.max(values, initial=0.0)),
        gradient_error=float(np.max(gradients)) if gradients else None,
        tolerance=tolerance,
        worst=max(errors, key=lambda case: _strain(errors[case], tolerance), default=""),
    )


def _errors(case: Case, backend: Backend, device: str, dtype: str) -> tuple[float, float | None] | None:
    """Return the errors of value and gradient, or None where the dtype cannot hold the points."""
    adapter = ADAPTERS[backend.name]
    with np.errstate(over="ignore"):
        X = adapter.native(case.points, dtype, device)
    rounded = backend.to_numpy(X).astype(np.float64)
    if not np.nanmax(np.abs(rounded - case.points)) <= 0.01 * np.nanmax(np.abs(case.points)):
        return None
    value, gradient = adapter.value_and_gradient(case.score, X)
    truth = case.truth(rounded)
    score = backend.concrete(value)
    value_error = np.inf if score is None else abs(score - truth.value)
    if gradient is None:
        return value_error, None
    # At zeta = 1 the gradient is exactly zero: its error is then absolute.
    largest = np.abs(truth.gradient).max() or 1.0
    return value_error, float(np.abs(backend.to_numpy(gradient) - truth.gradient).max() / largest)


def _strain(errors: tuple[float, float | None], tolerance: Tolerance) -> float:
    strain = max(errors[0] / tolerance.value, (errors[1] or 0.0) / tolerance.gradient)
    return np.inf if np.isnan(strain) else strain


def _failed(name: str, device: str, dtype: str, error: Exception, case: str = "") -> Check:
    text = f"{type(error).__name__}: {error}".splitlines()[0] + case
    return Check(name, device, dtype, 0, np.inf, None, TOLERANCES.get(dtype, TOLERANCES["float64"]), failure=text)
