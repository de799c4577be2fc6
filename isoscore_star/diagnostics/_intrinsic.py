"""Intrinsic dimension: scikit-dimension's estimators, with exact distances and without repeated points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from isoscore_star import DegenerateDataError, MissingDependencyError, arguments
from isoscore_star.diagnostics._neighbours import nearest_distances
from isoscore_star.diagnostics._points import FloatArray, in_unit

NEIGHBOURS = 20
"""Neighbours of each point in the MLE: scikit-dimension's default."""
WHY = "an intrinsic dimension"
LARGEST = 1e9
"""Dimension beyond which ratios of distances differ from 1 by no more than their rounding errors."""


def two_nn_dimension(X: Any, *, mask: Any = None) -> float:
    """Estimate the intrinsic dimension from each point's two nearest neighbours (TwoNN).

    Calls `skdim.id.TwoNN` (the line through the empirical distribution, a tenth of the ratios left out, as in [1]_)
    with distances that are exact for near-duplicates too. Points that occur more than once count once, since a distance
    of zero has no ratio.

    Parameters
    ----------
    X, mask :
        Points as rows, at least 4 different ones, and which of them count; see `isoscore_star.isoscore`.

    Returns
    -------
    float
        The estimated dimension of the manifold that the points lie on.

    Raises
    ------
    DegenerateDataError
        If there are too few different points, or each has its neighbours at one distance, as on a grid.
    MissingDependencyError
        If scikit-dimension is not installed.
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Facco, d'Errico, Rodriguez, Laio. *Estimating the intrinsic dimension of datasets by a minimal neighborhood
       information.* Scientific Reports 7, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> plane = np.random.default_rng(0).normal(size=(2000, 2)) @ np.random.default_rng(1).normal(size=(2, 10))
    >>> round(diagnostics.two_nn_dimension(plane))
    2
    """
    estimators = _scikit_dimension()
    nearest = nearest_distances(_different(X, mask, 4), 2)
    return _estimate(nearest, lambda: estimators.TwoNN(dist=True).fit(nearest).dimension_)


def mle_dimension(X: Any, n_neighbors: int = NEIGHBOURS, *, mask: Any = None) -> float:
    """Estimate the intrinsic dimension by the maximum likelihood of Levina & Bickel [1]_.

    Calls `skdim.id.MLE`, whose estimates at the points are averaged by their inverses [2]_, with distances that are
    exact for near-duplicates too. Points that occur more than once count once, since the logarithm of a distance of
    zero is infinite.

    Parameters
    ----------
    X, mask :
        Points as rows, more than `n_neighbors` different ones, and which of them count; see `isoscore_star.isoscore`.
    n_neighbors : int, default 20
        Neighbours of each point that are used, at least 3.

    Returns
    -------
    float
        The estimated dimension of the manifold that the points lie on.

    Raises
    ------
    DegenerateDataError
        If there are not more different points than neighbours, or each has them at one distance, as on a grid.
    MissingDependencyError
        If scikit-dimension is not installed.
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Levina, Bickel. *Maximum Likelihood Estimation of Intrinsic Dimension.* NeurIPS 2004.
    .. [2] MacKay, Ghahramani. *Comments on "Maximum Likelihood Estimation of Intrinsic Dimension".* 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> plane = np.random.default_rng(0).normal(size=(500, 2)) @ np.random.default_rng(1).normal(size=(2, 10))
    >>> round(diagnostics.mle_dimension(plane))
    2
    """
    arguments.integer("n_neighbors", n_neighbors, 3)
    estimators = _scikit_dimension()
    points = _different(X, mask, n_neighbors + 1)
    nearest = nearest_distances(points, n_neighbors)
    options = {"precomputed_knn_arrays": (nearest, None), "n_neighbors": n_neighbors}
    return _estimate(nearest, lambda: estimators.MLE().fit(points, **options).dimension_)


def id_score(X: Any, n_neighbors: int = NEIGHBOURS, *, mask: Any = None) -> float:
    """Compute the ID score: the maximum-likelihood intrinsic dimension as a fraction of d, at most 1.

    So the IsoScore paper [1]_ turns `mle_dimension` into a measure of isotropy.

    Parameters
    ----------
    X, n_neighbors, mask :
        See `mle_dimension`.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    DegenerateDataError, MissingDependencyError, InvalidValueError, InvalidTypeError
        As `mle_dimension`.

    References
    ----------
    .. [1] Rudman, Gillman, Rayne, Eickhoff. *IsoScore.* Findings of ACL 2022. arXiv 2108.07344.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> plane = np.random.default_rng(0).normal(size=(500, 2)) @ np.random.default_rng(1).normal(size=(2, 10))
    >>> round(diagnostics.id_score(plane), 1)
    0.2
    """
    points = arguments.points(X, mask, WHY)
    return min(1.0, mle_dimension(points, n_neighbors) / int(points.shape[1]))


def _different(X: Any, mask: Any, least: int) -> FloatArray:
    """Return each different point once, scaled, which changes no intrinsic dimension."""
    points = in_unit(arguments.points(X, mask, WHY))
    different = np.unique(points, axis=0)
    if len(different) == 1:
        raise arguments.identical_points(len(points))
    if len(different) < least:
        raise DegenerateDataError(
            "X",
            f"this intrinsic dimension needs at least {least} different points; got {len(different)}. "
            "Give more, or look at fewer neighbours",
        )
    return np.asarray(different)


def _estimate(nearest: FloatArray, estimate: Callable[[], float]) -> float:
    """Estimate a dimension from distances, or raise if their ratios determine none."""
    if not nearest.all():
        raise DegenerateDataError(
            "X",
            "points that differ lie so close together, beside the largest value, that their distance cannot be "
            "told from zero. Leave the far points out",
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        dimension = float(estimate())
    # Ratios of equal distances differ from 1 by rounding: their logarithms are some 1e-16, the inverse some 1e16.
    if not 0 < dimension < LARGEST:
        raise DegenerateDataError(
            "X",
            "each point's nearest neighbours are equally far, as on a grid, so that no intrinsic dimension follows "
            "from their distances",
        )
    return dimension


def _scikit_dimension() -> Any:
    try:
        import skdim.id
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "skdim":
            raise
        raise MissingDependencyError(
            "the intrinsic dimension needs scikit-dimension, which is not installed: "
            'pip install "isoscore-star[diagnostics]"'
        ) from None
    return skdim.id
