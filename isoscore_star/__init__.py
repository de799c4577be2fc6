"""IsoScore* and I-STAR: measure and regularize the isotropy of embeddings, in every framework.

`isoscore_star.core.formulas` has the mathematics, `isoscore_star.reference` Algorithm 1 of the paper as printed,
``isoscore_star.backends.<name>`` a framework's own part. Importing this imports no framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoscore_star import reference
from isoscore_star._version import __version__
from isoscore_star.comparison import ComparedLayer, Comparison, compare
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
from isoscore_star.groupwise import GroupedMeasurement, MeasuredGroup, measure_groups
from isoscore_star.measurement import Measurement, OutlierDimension
from isoscore_star.schedule import LambdaSchedule

if TYPE_CHECKING:
    from isoscore_star.scanning import LongToken, Scan, ScannedLayer, load_scan, scan, scan_weights
    from isoscore_star.streams import measure

# What stands above the core, by the package that has it; loaded on first use.
_PLACES = dict.fromkeys(
    ("LongToken", "Scan", "ScannedLayer", "load_scan", "scan", "scan_weights"), "isoscore_star.scanning"
) | {"measure": "isoscore_star.streams"}

__all__ = [
    "Backend",
    "ComparedLayer",
    "Comparison",
    "DegenerateDataError",
    "Explanation",
    "GroupedMeasurement",
    "InvalidTypeError",
    "InvalidValueError",
    "Invariants",
    "IsoScoreError",
    "LambdaSchedule",
    "LongToken",
    "LongestPoints",
    "MeasuredGroup",
    "Measurement",
    "MissingDependencyError",
    "Moments",
    "Neighbours",
    "OutlierDimension",
    "Pair",
    "Scan",
    "ScannedLayer",
    "__version__",
    "available_backends",
    "backend_of",
    "compare",
    "get_backend",
    "isoscore",
    "isoscore_from_cov",
    "isoscore_from_spectrum",
    "isoscore_star",
    "isoscore_unbiased",
    "istar_loss",
    "load_scan",
    "measure",
    "measure_groups",
    "participation_ratio",
    "reference",
    "scan",
    "scan_weights",
    "score_from_participation_ratio",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_PLACES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
