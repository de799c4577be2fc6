"""The other measures of isotropy, and which of them need scikit-dimension."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isoscore_star import diagnostics

ALL = [
    diagnostics.average_cosine_similarity,
    diagnostics.partition_score,
    diagnostics.varex_score,
    diagnostics.rank_me,
    diagnostics.condition_number,
    diagnostics.uniformity,
    diagnostics.outlier_dimensions,
    diagnostics.id_score,
    diagnostics.two_nn_dimension,
    diagnostics.mle_dimension,
]
INTRINSIC = ALL[-3:]

Measure = Callable[..., object]


def needs(measure: Measure) -> None:
    """Skip a test of a measure that cannot be computed here."""
    if measure in INTRINSIC:
        pytest.importorskip("skdim.id")
