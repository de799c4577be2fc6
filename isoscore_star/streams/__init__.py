"""Points that are not in memory: batches of an iterator, or files; `isoscore_star.measure` takes them.

`BatchedCloud` sums batches in one pass, on the device that has them; files are read by `isoscore_star.readers`.
"""

from isoscore_star.streams._batched import BatchedCloud
from isoscore_star.streams._measure import measure

__all__ = ["BatchedCloud", "measure"]
