"""Points in the chunks of a Dask array or data frame: each is summed where it is, and the sums are merged by a tree.

`isoscore_star.isoscore`, `isoscore_star`, `isoscore_unbiased` and `measure` take them; nothing here imports Dask before
it is given one of its arrays. Groups have the numbers that the data give them (their place along an axis, or that of
their label among all labels), never those of their arrival, so that chunks of any size, on any number of workers, give
the same result: to rounding for points that are multiplied in float64 (see `isoscore_star.Moments`).
"""

from isoscore_star.distributed_arrays._frames import select_columns
from isoscore_star.distributed_arrays._passes import Reduced, measured, reduced
from isoscore_star.distributed_arrays._pieces import Block, Piece, measured_pieces
from isoscore_star.distributed_arrays._recognised import is_distributed, is_frame

__all__ = [
    "Block",
    "Piece",
    "Reduced",
    "is_distributed",
    "is_frame",
    "measured",
    "measured_pieces",
    "reduced",
    "select_columns",
]
