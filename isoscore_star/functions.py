"""The public functions: check, compute the invariants in X's framework, then a score or a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from numpy.typing import NDArray

from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import groups_of, groups_suffice, halves_of
from isoscore_star.core.protocol import Array, Backend, Invariants
from isoscore_star.core.recordable import record, recordable
from isoscore_star.core.registry import backend_of
from isoscore_star.core.score import anchored_score, bounded, halves_score, shrunk_score, unbiased_score
from isoscore_star.distributed_arrays import is_distributed, reduced

if TYPE_CHECKING:
    import jax
    import torch

_Tensor = TypeVar("_Tensor", "torch.Tensor", "jax.Array")
_ArraysOfNumPy = NDArray[Any] | Sequence[NDArray[Any]]


@overload
def isoscore(X: _ArraysOfNumPy, *, mask: Any = ..., across: Any = ...) -> float: ...
@overload
def isoscore(X: _Tensor | Sequence[_Tensor], *, mask: Any = ..., across: Any = ...) -> _Tensor: ...
@overload
def isoscore(X: Any, *, mask: Any = ..., across: Any = ...) -> Any: ...
@recordable
def isoscore(X: Any, *, mask: Any = None, across: Any = None) -> Any:
    """Compute IsoScore, the fraction of its dimensions that a cloud of points uses evenly.

    IsoScore = (PR − 1)/(d − 1), with PR = (tr S)²/tr(S²) the participation ratio of the covariance S [1]_. It is
    `isoscore_star` with ζ = 0. For few points in many dimensions it is far too low: see `isoscore_unbiased`.

    Parameters
    ----------
    X : array of shape (m, d) or (..., d), or a list or tuple of such arrays
        Points as rows (leading axes are flattened), d ≥ 2; a list means the union of its clouds. Of any backend
        (`available_backends`); whatever has ``__array__`` counts as NumPy. Integers are computed in float64; float16
        and bfloat16 are summed and multiplied in float32 or better. Arrays and data frames of Dask are summed chunk by
        chunk, each where it is (`isoscore_star.distributed_arrays`); give them a mask of Dask, of NumPy, or a column.
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for points, 0 or false for padding, which affects neither value nor gradient. For a list: a list of
        masks (or None), or one mask for all clouds.
    across : optional
        Devices of a distributed run whose points together are the cloud: for JAX the name of a mesh axis (or a tuple
        of names) inside `jax.shard_map`, for TensorFlow ``"replicas"`` inside a strategy's replica function, for torch
        ``"world"`` (all ranks of `torch.distributed`) or a ``ProcessGroup``. Every device gets the score of the union,
        and the gradient of its own points. In torch that is the gradient of the sum of the ranks' losses, so that the
        average taken by DDP and FSDP is that of the global loss; every rank has to make the call, also one without
        points, and there are first derivatives only.

    Returns
    -------
    float or 0-d array
        The score in [0, 1]: 1 if all directions have the same variance, 0 if one has all. A float for NumPy; else a
        differentiable 0-d array of X's framework, device and dtype (float32 for half precision), within rounding of
        [0, 1].

    Raises
    ------
    InvalidValueError
        If a shape is wrong, a value is not finite or a mask holds other values than 0 and 1.
    DegenerateDataError
        If there are fewer than two points, or all points are identical.
    InvalidTypeError
        If X is no array of a known framework, is complex, boolean or not numeric, or frameworks are mixed.

    Notes
    -----
    Inside a compiled or traced function only types, dtypes and shapes are checked, and points without variance score 0
    with zero gradient.

    References
    ----------
    .. [1] Rudman, Gillman, Rayne, Eickhoff. *IsoScore: Measuring the Uniformity of Embedding Space Utilization.*
       Findings of ACL 2022. arXiv 2108.07344.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> iso.isoscore(corners)
    1.0
    >>> iso.isoscore(corners * [1.0, 0.0])
    0.0
    """
    return isoscore_star(X, mask=mask, across=across)


@overload
def isoscore_star(
    X: _ArraysOfNumPy, shrinkage_cov: Any = ..., zeta: Any = ..., *, mask: Any = ..., across: Any = ...
) -> float: ...
@overload
def isoscore_star(
    X: _Tensor | Sequence[_Tensor], shrinkage_cov: Any = ..., zeta: Any = ..., *, mask: Any = ..., across: Any = ...
) -> _Tensor: ...
@overload
def isoscore_star(X: Any, shrinkage_cov: Any = ..., zeta: Any = ..., *, mask: Any = ..., across: Any = ...) -> Any: ...
@recordable
def isoscore_star(X: Any, shrinkage_cov: Any = None, zeta: Any = 0.0, *, mask: Any = None, across: Any = None) -> Any:
    """Compute IsoScore*, the IsoScore of the shrunk covariance Σ = (1 − ζ)·S + ζ·Σ_S, stable on mini-batches.

    IsoScore* = (T²/F − 1)/(d − 1), with T = tr Σ and F = ‖Σ‖²_F: Algorithm 1 of [1]_ without its eigenvalues.

    Parameters
    ----------
    X : array of shape (m, d) or (..., d), or a list or tuple of such arrays
        Points as rows; see `isoscore`.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S, a covariance from many more points (of `Moments`, say). Of X's framework or NumPy; converted to the dtype
        in which X is computed, on X's device.
    zeta : float or 0-d array, default 0
        ζ in [0, 1], the weight of Σ_S. Above 0 it requires `shrinkage_cov`; at 1 the score is that of Σ_S, with zero
        gradient for X.
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for points, 0 or false for padding; see `isoscore`.
    across : optional
        Devices whose points together are the cloud; see `isoscore`.

    Returns
    -------
    float or 0-d array
        The score; see `isoscore`. Differentiable in X, and in `shrinkage_cov` and ζ if they are of X's framework.

    Raises
    ------
    InvalidValueError
        As `isoscore`; also if ζ is outside [0, 1] or above 0 without `shrinkage_cov`, or if that is not finite,
        square, symmetric, of X's d, or has a negative variance.
    DegenerateDataError
        If there are fewer than two points, or all points are identical.
    InvalidTypeError
        As `isoscore`.

    References
    ----------
    .. [1] Rudman, Eickhoff. *Stable Anisotropic Regularization.* ICLR 2024. arXiv 2305.19358.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> rng = np.random.default_rng(0)
    >>> many, batch = rng.normal(size=(5000, 64)), rng.normal(size=(16, 64))
    >>> round(iso.isoscore_star(batch), 2), round(iso.isoscore_star(batch, np.cov(many.T), 0.8), 2)
    (0.18, 0.85)
    """
    backend = backend_of(X)
    if _is_distributed(X, backend, across):
        zeta = parameters.zeta(zeta, shrinkage_cov)
        return reduced(X, mask).isoscore_star(shrinkage_cov, zeta)
    arguments = {"shrinkage_cov": shrinkage_cov, "zeta": zeta, "mask": mask, "across": across}
    recorded = record(isoscore_star, backend, X, arguments)
    if recorded is not NotImplemented:
        return recorded
    cloud = checks.points(X, mask, backend)
    zeta = parameters.zeta(zeta, shrinkage_cov, backend)
    invariants = _shrinkage_invariants(cloud, shrinkage_cov, zeta, mask, across, check_values=True)
    score = shrunk_score(invariants, _computed(zeta, cloud), cloud.dim, backend.where)
    return bounded(backend.result(_computed(score, cloud)))


@overload
def isoscore_unbiased(X: _ArraysOfNumPy, *, mask: Any = ..., groups: Any = ..., across: Any = ...) -> float: ...
@overload
def isoscore_unbiased(
    X: _Tensor | Sequence[_Tensor], *, mask: Any = ..., groups: Any = ..., across: Any = ...
) -> _Tensor: ...
@overload
def isoscore_unbiased(X: Any, *, mask: Any = ..., groups: Any = ..., across: Any = ...) -> Any: ...
@recordable
def isoscore_unbiased(X: Any, *, mask: Any = None, groups: Any = "auto", across: Any = None) -> Any:
    """Compute IsoScore without the bias of a small sample, and without Σ_S and ζ.

    Points that were sampled together, such as the tokens of a sentence, resemble each other: for them it is the score
    of two halves of the groups, s(A, B) = (tr A·tr B/⟨A, B⟩ − 1)/(d − 1) with the covariances A and B of the halves,
    which are independent. For independent points it is (PR − 1)/(d − 1) with PR the ratio of the unbiased estimates of
    (tr Σ)² and tr(Σ²), U-statistics of order four for any distribution with fourth moments [1]_.

    Parameters
    ----------
    X : array of shape (sequences, tokens, d), (m, d) or (..., d), or a list or tuple of such arrays
        Points as rows; see `isoscore`. At least four groups, or m ≥ 4 independent points.
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for points, 0 or false for padding; see `isoscore`.
    groups : "auto", int, array of shape ``X.shape[:-1]``, or None, default "auto"
        Which points were sampled together. ``"auto"``: those of one index along the first axis of arrays of three axes,
        the same sequences in every array of a list (a model's layers); points of shape (m, d) are independent. An int:
        an axis. An array: labels, integers or strings, one for each point (for a list of clouds a list of arrays, or
        one for all); inside a compiled or traced function integers, the groups' numbers. None: points are independent.
        Groups with even numbers are one half, those with odd numbers the other.
    across : optional
        Devices whose points together are the cloud; see `isoscore`. Groups are numbered on from one to the next.

    Returns
    -------
    float or 0-d array
        The score; see `isoscore`. It can lie a little below 0 or above 1, since clipping would bias it. What is left of
        the bias: for groups about 1/G of the part of the variance that is between groups, with G the groups of a half,
        and for both the skew of a ratio.

    Raises
    ------
    DegenerateDataError
        If there are fewer than four groups (or independent points), no variance (in one half), or the estimate of
        tr(Σ²) is not positive.
    InvalidValueError, InvalidTypeError
        As `isoscore`; also if `groups` does not fit X, as ``"auto"`` does not fit arrays of four axes and more.

    References
    ----------
    .. [1] Chun, Canatar, Chung, Lee. *Estimating Dimensionality of Neural Representations from Finite Samples.*
       ICLR 2026 (their row-corrected estimator).

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> rng = np.random.default_rng(0)
    >>> batch = rng.normal(size=(32, 64))  # of a distribution whose score is 1
    >>> round(iso.isoscore(batch), 2), round(iso.isoscore_unbiased(batch), 2)
    (0.33, 1.13)

    Eight sentences of twenty tokens, which are alike:

    >>> states = rng.normal(size=(8, 1, 64)) + rng.normal(size=(8, 20, 64)) / 4
    >>> round(iso.isoscore_unbiased(states, groups=None), 2), round(iso.isoscore_unbiased(states), 2)
    (0.1, 0.73)
    """
    backend = backend_of(X)
    if _is_distributed(X, backend, across):
        return reduced(X, mask, groups).isoscore_unbiased()
    recorded = record(isoscore_unbiased, backend, X, {"mask": mask, "groups": groups, "across": across})
    if recorded is not NotImplemented:
        return recorded
    cloud = checks.points(X, mask, backend)
    return backend.result(_computed(_unbiased_score(cloud, mask, groups, across, check_values=True), cloud))


@overload
def istar_loss(
    X: _ArraysOfNumPy,
    shrinkage_cov: Any = ...,
    zeta: Any = ...,
    lam: Any = ...,
    *,
    mask: Any = ...,
    across: Any = ...,
    estimator: str = ...,
    groups: Any = ...,
    check_values: bool = ...,
) -> float: ...
@overload
def istar_loss(
    X: _Tensor | Sequence[_Tensor],
    shrinkage_cov: Any = ...,
    zeta: Any = ...,
    lam: Any = ...,
    *,
    mask: Any = ...,
    across: Any = ...,
    estimator: str = ...,
    groups: Any = ...,
    check_values: bool = ...,
) -> _Tensor: ...
@overload
def istar_loss(
    X: Any,
    shrinkage_cov: Any = ...,
    zeta: Any = ...,
    lam: Any = ...,
    *,
    mask: Any = ...,
    across: Any = ...,
    estimator: str = ...,
    groups: Any = ...,
    check_values: bool = ...,
) -> Any: ...
@recordable
def istar_loss(
    X: Any,
    shrinkage_cov: Any = None,
    zeta: Any = 0.2,
    lam: Any = 1.0,
    *,
    mask: Any = None,
    across: Any = None,
    estimator: str = "shrinkage",
    groups: Any = "auto",
    check_values: bool = False,
) -> Any:
    """Compute I-STAR, the penalty λ·(1 − IsoScore*) to add to a task loss.

    It is finite for points whose differences are (in float32, below some 1e33): a batch without variance (one point,
    none unmasked, all identical) has S = 0, so the score is that of Σ_S with zero gradient, and 0 with zero gradient
    if Σ is zero. With a point that is not finite the penalty is NaN.

    Parameters
    ----------
    X : array of shape (m, d) or (..., d), or a list or tuple of such arrays
        Token states as rows; a list of layers means their union, which the paper uses. See `isoscore`.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S; see `isoscore_star`. The unbiased estimator takes none; the anchored one requires it.
    zeta : float or 0-d array, default 0.2
        ζ in [0, 1]; the paper searches 0.2, 0.4, 0.6, 0.8. Of the shrinkage estimator alone. The value of a scalar of
        X's framework (for a schedule) is not checked.
    lam : float or 0-d array, default 1.0
        λ, likewise. Above 0 pushes towards isotropy, below 0 away from it; the paper searches ±1, ±3, ±5.
    mask : array of shape ``X.shape[:-1]``, optional
        1 or true for token states, 0 or false for padding (an attention mask). Every value but 0 selects a state: only
        `check_values` rejects an additive mask (0 and large negative numbers).
    across : optional
        Devices whose points together are the cloud; see `isoscore`.
    estimator : {"shrinkage", "unbiased", "anchored"}, default "shrinkage"
        ``"shrinkage"`` takes IsoScore*, as in the paper. ``"unbiased"`` takes the score of `isoscore_unbiased`, its
        denominator floored so that value and gradient stay finite; for fewer than four groups (or independent points)
        it is 0 with zero gradient. ``"anchored"`` takes 2·s(S, Σ_S) − s(Σ_S, Σ_S) with Σ_S held constant: the gradient
        has the right size for any batch, for half the products, as long as Σ_S is near the covariance of the points
        that the model gives now (`isoscore_star.backends.torch.IStarLoss` sees to that; a function has no memory).
    groups : "auto", int, array of shape ``X.shape[:-1]``, or None, default "auto"
        For the unbiased estimator, which points were sampled together; see `isoscore_unbiased`.
    check_values : bool, default False
        Also check the values of X, mask and `shrinkage_cov` and raise for a degenerate batch, as `isoscore_star` does,
        for which the host waits for the device.

    Returns
    -------
    float or 0-d array
        The penalty; a float for NumPy, else a 0-d array of X's framework, differentiable in X.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For wrong types, dtypes, shapes, and ζ or λ out of range; with `check_values`, as `isoscore_star`.

    Examples
    --------
    >>> import torch
    >>> import isoscore_star as iso
    >>> states = torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    >>> loss = iso.istar_loss(states, estimator="unbiased")
    >>> loss.backward()
    >>> states.grad.shape
    torch.Size([4, 16, 8])
    """
    backend = backend_of(X)
    if _is_distributed(X, backend, None):
        raise InvalidTypeError(
            "X",
            "a loss is of a batch in memory; got an array of Dask. Give X.compute(), or measure it by isoscore_star",
        )
    arguments = {"shrinkage_cov": shrinkage_cov, "zeta": zeta, "lam": lam, "mask": mask, "across": across}
    settings = {"estimator": estimator, "groups": groups, "check_values": check_values}
    recorded = record(istar_loss, backend, X, arguments | settings)
    if recorded is not NotImplemented:
        return recorded
    cloud = checks.points(X, mask, backend)
    lam = parameters.weight("lam", lam, backend)
    score = training_score(
        cloud,
        shrinkage_cov,
        zeta,
        mask=mask,
        across=across,
        estimator=estimator,
        groups=groups,
        check_values=check_values,
    )
    return backend.result(_computed(lam, cloud) * (1 - score))


def _is_distributed(X: Any, backend: Backend, across: Any) -> bool:
    """Return whether X is an array or a data frame of Dask, which has NumPy's interface; compiled code never asks."""
    if backend.name != "numpy" or not is_distributed(X):
        return False
    if across is not None:
        raise InvalidValueError("across", "Dask knows where the chunks of its arrays are; leave it out")
    return True


def training_score(
    cloud: Points,
    shrinkage_cov: Any,
    zeta: Any,
    *,
    mask: Any = None,
    across: Any = None,
    estimator: str = "shrinkage",
    groups: Any = "auto",
    check_values: bool = False,
) -> Array:
    """Compute the score of which `istar_loss` is made, with the same arguments; `mask` is for the checks of values."""
    backend = cloud.backend
    parameters.choice("estimator", estimator, parameters.ESTIMATORS)
    if estimator == "unbiased":
        score = _unbiased_score(cloud, mask, groups, across, check_values=check_values, floored=True)
    elif estimator == "anchored":
        score = _anchored_score(cloud, shrinkage_cov, mask, across, check_values=check_values)
    else:
        zeta = parameters.zeta(zeta, shrinkage_cov, backend)
        invariants = _shrinkage_invariants(cloud, shrinkage_cov, zeta, mask, across, check_values=check_values)
        score = shrunk_score(invariants, _computed(zeta, cloud), cloud.dim, backend.where)
    return _computed(score, cloud)


def _unbiased_score(
    cloud: Points, mask: Any, groups: Any, across: Any, *, check_values: bool, floored: bool = False
) -> Array:
    """Compute the score of two halves of the groups, or that of independent points."""
    backend, dim = cloud.backend, cloud.dim
    found = groups_of(cloud, groups, waiting=check_values)
    if found is None:
        invariants = _sample_invariants(cloud, mask, across, check_values=check_values)
        score = backend.unbiased_score(invariants, dim) if floored else NotImplemented
        if score is NotImplemented:
            floored = floored or backend.concrete(invariants.f) is None
            score = unbiased_score(invariants, dim, backend.where, floored=floored)
        return score
    halves = halves_of(cloud, found, across)
    first, second = halves.first, halves.second
    pair = backend.pair(first.clouds, first.masks, second.clouds, second.masks, across=across)
    if check_values:
        value_checks.measured_halves(cloud, mask, found, halves, pair, across)
    floored = floored or backend.concrete(pair.inner) is None
    enough = groups_suffice(halves, found, across)
    return halves_score(pair, dim, backend.where, enough=enough, floored=floored)


def _anchored_score(cloud: Points, shrinkage_cov: Any, mask: Any, across: Any, *, check_values: bool) -> Array:
    backend = cloud.backend
    target = _target(cloud, parameters.anchor(shrinkage_cov), check_values=check_values)
    invariants = backend.anchored(cloud.clouds, cloud.masks, target, across=across)
    if check_values:
        value_checks.measured_values(cloud, mask, invariants, 2, "a covariance")
        value_checks.target_in_range(backend, target, invariants)
    return anchored_score(invariants, cloud.dim, backend.where)


def _shrinkage_invariants(
    cloud: Points, shrinkage_cov: Any, zeta: Any, mask: Any, across: Any, *, check_values: bool
) -> Invariants:
    backend, target = cloud.backend, None
    if shrinkage_cov is not None:
        target = _target(cloud, shrinkage_cov, check_values=check_values)
        target = None if isinstance(zeta, float) and zeta == 0 else target
    invariants = backend.invariants(cloud.clouds, cloud.masks, target, fourth_order=False, across=across)
    if check_values:
        value_checks.zeta_value("zeta", zeta, backend)
        value_checks.measured_values(cloud, mask, invariants, 2, "a covariance")
        if target is not None:
            value_checks.target_in_range(backend, target, invariants)
    return invariants


def _target(cloud: Points, shrinkage_cov: Any, *, check_values: bool) -> Array:
    """Check Σ_S and convert it to the dtype in which X is computed."""
    matrix = checks.square_matrix("shrinkage_cov", shrinkage_cov, cloud.backend, cloud.dim)
    if check_values:
        value_checks.covariance_values("shrinkage_cov", matrix, cloud.backend)
    return cloud.backend.constant(matrix, cloud.clouds[0])


def _sample_invariants(cloud: Points, mask: Any, across: Any, *, check_values: bool) -> Invariants:
    invariants = cloud.backend.invariants(cloud.clouds, cloud.masks, None, fourth_order=True, across=across)
    if check_values:
        value_checks.measured_values(cloud, mask, invariants, 4, "the unbiased estimate")
        value_checks.unbiased_estimate(cloud, invariants)
    return invariants


def _computed(scalar: Any, cloud: Points) -> Any:
    """Convert ζ, λ or a score to the dtype of computation, unless it is a float."""
    return scalar if isinstance(scalar, float) else cloud.backend.constant(scalar, cloud.clouds[0])
