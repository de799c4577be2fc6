"""Two clouds, or two models layer by layer: how their scores differ, with an interval, and how alike they are.

`isoscore_star.core.standard_error` has what leaving out each point or group adds to log PR. For clouds whose points or
groups correspond, such as the states of the same sentences before and after training, the variance of the difference
is the sum of squares of the differences of these; for two samples of their own the variances add.
"""

from isoscore_star.comparison._compare import compare, compare_layer
from isoscore_star.comparison._layer import ComparedLayer
from isoscore_star.comparison._layers import ONE, pairs_of_names
from isoscore_star.comparison._result import Comparison
from isoscore_star.comparison._streams import Stream
from isoscore_star.measurement import INDEPENDENT

__all__ = ["INDEPENDENT", "ONE", "ComparedLayer", "Comparison", "Stream", "compare", "compare_layer", "pairs_of_names"]
