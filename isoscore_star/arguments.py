"""Checks of arguments, for code that builds on this library: the same words and the same errors as its own.

Each returns the checked value, or raises `isoscore_star.InvalidTypeError` or `isoscore_star.InvalidValueError` with the
name of the argument, what came, and what is allowed.

Examples
--------
>>> from isoscore_star import arguments
>>> arguments.number("lam", 1)
1.0
>>> arguments.choice("estimator", "shrinkage", arguments.ESTIMATORS)
'shrinkage'
"""

from isoscore_star.core.checks import ESTIMATORS, choice, dimensions, number, zeta
from isoscore_star.core.value_checks import shrinkage_target as shrinkage_cov

__all__ = ["ESTIMATORS", "choice", "dimensions", "number", "shrinkage_cov", "zeta"]
