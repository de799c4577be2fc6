"""The library's checks of arguments, for code that builds on it.

Each returns the checked value, or raises `isoscore_star.InvalidTypeError` or `isoscore_star.InvalidValueError` with the
name of the argument, what was given, and what is allowed.

Examples
--------
>>> import numpy as np
>>> from isoscore_star import arguments
>>> arguments.number("lam", 1)
1.0
>>> arguments.choice("estimator", "shrinkage", arguments.ESTIMATORS)
'shrinkage'
>>> arguments.points(np.array([[1, 2], [3, 4]]), None, "a mean")
array([[1., 2.],
       [3., 4.]])
"""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, value_checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import groups_of, numbers_of
from isoscore_star.core.parameters import (
    ESTIMATORS,
    MEASURING_ESTIMATORS,
    choice,
    dimensions,
    groups_of_batch,
    number,
    usual_groups,
    zeta,
)
from isoscore_star.core.value_checks import identical_points, mask_values
from isoscore_star.core.value_checks import shrinkage_target as shrinkage_cov

__all__ = [
    "ESTIMATORS",
    "MEASURING_ESTIMATORS",
    "choice",
    "dimensions",
    "group_numbers",
    "groups_of_batch",
    "identical_points",
    "integer",
    "mask_values",
    "number",
    "points",
    "shrinkage_cov",
    "usual_groups",
    "zeta",
]


def integer(name: str, value: Any, least: int) -> int:
    """Require an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidTypeError(name, f"expected an integer of at least {least}; got {value!r}")
    if value < least:
        raise InvalidValueError(name, f"expected an integer of at least {least}; got {value!r}")
    return int(value)


def points(X: Any, mask: Any, why: str, least: int = 2) -> NDArray[np.float64]:
    """Check points of any framework and their mask, values too, and return the unmasked ones in NumPy.

    Parameters
    ----------
    X, mask :
        See `isoscore_star.isoscore`.
    why : str
        What needs the points, the start of a message: ``"a covariance"``.
    least : int, default 2
        How many points that needs.

    Returns
    -------
    ndarray of shape (m, d), float64
        A copy, not a view of X.
    """
    cloud = checks.points(X, mask)
    mask_values(mask)
    with np.errstate(over="ignore"):  # a longdouble beyond float64's range becomes infinite, which is explained
        joined = np.concatenate(cloud.rows(), dtype=np.float64)
    if not np.isfinite(joined).all():
        value_checks.explain_non_finite(cloud)
    value_checks.enough_points(len(joined), least, why)
    return joined


def group_numbers(X: Any, mask: Any, groups: Any) -> NDArray[np.int64] | None:
    """Check the groups of points, and return the number of the group of each unmasked point.

    Parameters
    ----------
    X, mask, groups :
        See `isoscore_star.isoscore_unbiased`.

    Returns
    -------
    ndarray of shape (m,), int64, or None
        None if points are independent.
    """
    cloud = checks.points(X, mask)
    found = groups_of(cloud, groups)
    return None if found is None else numbers_of(cloud, found)
