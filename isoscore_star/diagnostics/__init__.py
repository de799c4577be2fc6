"""Other measures of isotropy and of dimension, each with its source, to compare with IsoScore*.

All take points of any framework, masks and unions as `isoscore_star.isoscore` does, compute in NumPy in float64, and
return floats. Intrinsic dimensions need scikit-dimension: ``pip install "isoscore-star[diagnostics]"``.
"""

from isoscore_star.diagnostics._cosine import average_cosine_similarity
from isoscore_star.diagnostics._intrinsic import id_score, mle_dimension, two_nn_dimension
from isoscore_star.diagnostics._outliers import outlier_dimensions
from isoscore_star.diagnostics._partition import partition_score
from isoscore_star.diagnostics._spectral import condition_number, rank_me, varex_score
from isoscore_star.diagnostics._table import MeasureTable, compare_measures, point_measures
from isoscore_star.diagnostics._uniformity import uniformity

__all__ = [
    "MeasureTable",
    "average_cosine_similarity",
    "compare_measures",
    "condition_number",
    "id_score",
    "mle_dimension",
    "outlier_dimensions",
    "partition_score",
    "point_measures",
    "rank_me",
    "two_nn_dimension",
    "uniformity",
    "varex_score",
]
