"""Outlier dimensions of a cloud."""

from __future__ import annotations

from typing import Any

import numpy as np

from isoscore_star import Measurement, OutlierDimension, arguments
from isoscore_star.diagnostics._points import centred


def outlier_dimensions(
    X: Any, factor: float = Measurement.OUTLIER_FACTOR, *, mask: Any = None
) -> tuple[OutlierDimension, ...]:
    """Return the dimensions whose variance is many times the average, largest first.

    Parameters
    ----------
    X, mask :
        Points as rows, and which of them count; see `isoscore_star.isoscore`.
    factor : float, default 5.0
        Multiple of the average variance from which on a dimension is an outlier; five in [1]_.

    Returns
    -------
    tuple of OutlierDimension
        Each with its index and its fraction of the total variance.

    Raises
    ------
    DegenerateDataError
        If there are fewer than two points, or all are identical.
    InvalidValueError, InvalidTypeError
        For a factor out of range; as `isoscore_star.isoscore`.

    References
    ----------
    .. [1] Rudman, Chen, Eickhoff. *Outlier Dimensions Encode Task-Specific Knowledge.* EMNLP 2023. arXiv 2310.17715.

    Examples
    --------
    >>> import numpy as np
    >>> from isoscore_star import diagnostics
    >>> points = np.random.default_rng(0).normal(size=(200, 50)) * np.r_[10.0, np.ones(49)]
    >>> [outlier.dimension for outlier in diagnostics.outlier_dimensions(points)]
    [0]
    """
    factor = arguments.number("factor", factor, 0.0)
    moved = centred(arguments.points(X, mask, "a variance"))
    variances = np.sum(moved**2, axis=0)
    fractions = variances / variances.sum()
    order = np.argsort(-fractions, kind="stable")
    return tuple(
        OutlierDimension(int(i), float(fractions[i])) for i in order if fractions[i] * len(fractions) >= factor
    )
