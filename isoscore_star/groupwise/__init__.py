"""Many clouds at once: the points of each class, language, cluster or document, or each cloud of an array of clouds.

Points are sorted by class once, classes of as many points are multiplied together, and what is summed gives the scores
of each class and the split of all points into what lies between classes and within them.
"""

from isoscore_star.groupwise._measure import measure_groups
from isoscore_star.groupwise._result import GroupedMeasurement, MeasuredGroup

__all__ = ["GroupedMeasurement", "MeasuredGroup", "measure_groups"]
