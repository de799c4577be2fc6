"""IsoScore* and I-STAR: measure and regularize the isotropy of embeddings, in every framework.

`isoscore_star.core.formulas` has the mathematics, `isoscore_star.reference` Algorithm 1 of the paper as printed,
``isoscore_star.backends.<name>`` a framework's own part. Importing this imports no framework.
"""

from isoscore_star import reference
from isoscore_star._version import __version__
from isoscore_star.core.errors import (
    DegenerateDataError,
    InvalidTypeError,
    InvalidValueError,
    IsoScoreError,
    MissingDependencyError,
)
from isoscore_star.core.longest_points import LongestPoints
from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours
from isoscore_star.core.protocol import Backend, Invariants, Pair
from isoscore_star.core.registry import available_backends, backend_of, get_backend
from isoscore_star.distributions import (
    isoscore_from_cov,
    isoscore_from_spectrum,
    participation_ratio,
    score_from_participation_ratio,
)
from isoscore_star.explanation import Explanation
from isoscore_star.functions import isoscore, isoscore_star, isoscore_unbiased, istar_loss
from isoscore_star.measurement import Measurement, OutlierDimension, measure
from isoscore_star.schedule import LambdaSchedule

__all__ = [
    "Backend",
    "DegenerateDataError",
    "Explanation",
    "InvalidTypeError",
    "InvalidValueError",
    "Invariants",
    "IsoScoreError",
    "LambdaSchedule",
    "LongestPoints",
    "Measurement",
    "MissingDependencyError",
    "Moments",
    "Neighbours",
    "OutlierDimension",
    "Pair",
    "__version__",
    "available_backends",
    "backend_of",
    "get_backend",
    "isoscore",
    "isoscore_from_cov",
    "isoscore_from_spectrum",
    "isoscore_star",
    "isoscore_unbiased",
    "istar_loss",
    "measure",
    "participation_ratio",
    "reference",
    "score_from_participation_ratio",
]
