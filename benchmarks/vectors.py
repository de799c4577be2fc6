"""`Moments` of vectors that come one by one, against the products that they need.

Run ``python benchmarks/vectors.py [--write FILE]``. Moments that have a scatter already take one vector an update, with
all checks; the products are NumPy's X.T @ X of blocks of a quarter of d rows (64 at least), which is when they are
multiplied. Adding x·xᵀ to d × d numbers for each vector is what it would cost without waiting.
"""

from __future__ import annotations

import copy

import numpy as np
import timing
from numpy.typing import NDArray
from tables import HERE, report, with_write

import isoscore_star as iso

WIDTHS, ROUNDS = (64, 768, 2048), 7


def one_by_one(moments: iso.Moments, points: NDArray[np.float64]) -> None:
    moments = copy.copy(moments)
    for point in points:
        moments.update(point[None])


def products(points: NDArray[np.float64], block: int) -> None:
    for start in range(0, len(points), block):
        part = points[start : start + block]
        part.T @ part


def without_waiting(scatter: NDArray[np.float64], points: NDArray[np.float64]) -> None:
    for point in points:
        scatter += point[:, None] * point


def row(dim: int) -> str:
    block = max(dim // 4 + 1, 64)
    points = np.random.default_rng(0).normal(size=(dim + 4 * block, dim))
    moments, rest = iso.Moments().update(points[:dim]), points[dim:]
    scatter = moments.cov.copy()
    jobs: dict[str, timing.Job] = {
        "ours": lambda: one_by_one(moments, rest),
        "products": lambda: products(rest, block),
        "without": lambda: without_waiting(scatter, rest[:32]),
    }
    times = timing.in_turn(jobs, ROUNDS, {})
    ours, bare = (float(np.median(times[name])) / len(rest) * 1e6 for name in ("ours", "products"))
    slow = [seconds / 32 * len(rest) for seconds in times["without"]]
    outer = float(np.median(slow)) / len(rest) * 1e6
    figures = (f"{ours:.0f}", f"{bare:.1f}", f"{ours - bare:.0f}", f"{outer:.0f}")
    return f"| {dim} | " + " | ".join(figures) + f" | {timing.ratio(slow, times['ours']):.1f} |"


def main() -> None:
    arguments = with_write(__doc__).parse_args()
    report(
        arguments.write,
        "Vectors one by one",
        f"Made by `python benchmarks/vectors.py --write benchmarks/VECTORS.md`, {HERE}; medians of {ROUNDS} rounds, "
        "float64. Microseconds a vector.",
        [
            "| d | update(x[None]) | its product, in blocks | the rest | adding x·xᵀ at once | times as long |",
            "| ---: | ---: | ---: | ---: | ---: | ---: |",
        ],
        list(map(row, WIDTHS)),
    )


if __name__ == "__main__":
    main()
