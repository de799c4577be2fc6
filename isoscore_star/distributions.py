"""Scores of a known covariance or spectrum, and their participation ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from numpy.typing import NDArray

from isoscore_star.core import checks, formulas, parameters, value_checks
from isoscore_star.core.protocol import Array, Backend
from isoscore_star.core.registry import backend_of
from isoscore_star.core.score import bounded

if TYPE_CHECKING:
    import jax
    import torch

_Tensor = TypeVar("_Tensor", "torch.Tensor", "jax.Array")
_Scalar = TypeVar("_Scalar", float, "torch.Tensor", "jax.Array")


@overload
def isoscore_from_cov(cov: NDArray[Any]) -> float: ...
@overload
def isoscore_from_cov(cov: _Tensor) -> _Tensor: ...
@overload
def isoscore_from_cov(cov: Any) -> Any: ...
def isoscore_from_cov(cov: Any) -> Any:
    """Compute IsoScore of a distribution from its covariance.

    Parameters
    ----------
    cov : array of shape (d, d)
        Symmetric, of any framework, d ≥ 2.

    Returns
    -------
    float or 0-d array
        The score; a float for NumPy, else a differentiable 0-d array of `cov`'s framework.

    Raises
    ------
    InvalidValueError
        If it is not square, symmetric and finite, has a negative variance, or ‖C‖²_F > (tr C)², as only with negative
        eigenvalues.
    DegenerateDataError
        If every variance is zero.
    InvalidTypeError
        If it is no array of a known framework, or not of real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> iso.isoscore_from_cov(np.diag([2.0, 2.0, 0.0]))
    0.5
    """
    backend = backend_of(cov, "cov")
    matrix = checks.square_matrix("cov", cov, backend)
    value_checks.covariance_values("cov", matrix, backend)
    return _score_of_covariance(backend, backend.constant(matrix, matrix))


@overload
def isoscore_from_spectrum(eigenvalues: NDArray[Any] | Sequence[float]) -> float: ...
@overload
def isoscore_from_spectrum(eigenvalues: _Tensor) -> _Tensor: ...
@overload
def isoscore_from_spectrum(eigenvalues: Any) -> Any: ...
def isoscore_from_spectrum(eigenvalues: Any) -> Any:
    """Compute IsoScore of a distribution from the eigenvalues of its covariance, in any order.

    Parameters
    ----------
    eigenvalues : array of shape (d,) or sequence of float
        Not negative, not all zero, d ≥ 2; zeros count as dimensions.

    Returns
    -------
    float or 0-d array
        The score; a float for NumPy and for plain numbers.

    Raises
    ------
    InvalidValueError
        If an eigenvalue is negative or not finite, or there are fewer than two.
    DegenerateDataError
        If all are zero.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> round(iso.isoscore_from_spectrum([1.0, 1.0, 1.0, 0.0, 0.0]), 12)
    0.5
    """
    if isinstance(eigenvalues, (list, tuple)):
        eigenvalues = parameters.numbers("eigenvalues", eigenvalues)
    backend = backend_of(eigenvalues, "eigenvalues")
    values = value_checks.spectrum(eigenvalues, backend)
    return _score_of_covariance(backend, backend.constant(values, values))


def participation_ratio(score: _Scalar, d: int) -> _Scalar:
    """Return the effective number of dimensions of a score: PR = 1 + (d − 1)·score.

    Parameters
    ----------
    score : float or 0-d array
        Any of the scores of this library.
    d : int
        Number of dimensions, at least 2.

    Returns
    -------
    float or 0-d array
        Between 1 and d for a score in [0, 1].

    Raises
    ------
    InvalidValueError
        If d is less than 2, or a number is not finite.
    InvalidTypeError
        If it is neither a number nor an array of numbers.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> iso.participation_ratio(0.5, d=5)
    3.0
    """
    computed: Any = formulas.participation_ratio(checks.scalar("score", score), parameters.dimensions(d))
    result: _Scalar = computed
    return result


def score_from_participation_ratio(pr: _Scalar, d: int) -> _Scalar:
    """Return the score of a participation ratio: (PR − 1)/(d − 1), the inverse of `participation_ratio`.

    Parameters
    ----------
    pr : float or 0-d array
        The effective number of dimensions.
    d : int
        Number of dimensions, at least 2.

    Returns
    -------
    float or 0-d array
        Between 0 and 1 for a ratio between 1 and d.

    Raises
    ------
    InvalidValueError
        If d is less than 2, or a number is not finite.
    InvalidTypeError
        If it is neither a number nor an array of numbers.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> iso.score_from_participation_ratio(3.0, d=5)
    0.5
    """
    computed: Any = formulas.score_from_participation_ratio(checks.scalar("pr", pr), parameters.dimensions(d))
    result: _Scalar = computed
    return result


def _score_of_covariance(backend: Backend, cov: Array) -> Any:
    t, f = backend.covariance_sums(cov)
    numerator, denominator = formulas.score_fraction(t, t, f, int(cov.shape[0]))
    return bounded(backend.result(numerator / backend.where(f > 0, denominator, 1.0)))
