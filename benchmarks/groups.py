"""Many small clouds: `measure_groups` against a loop over the classes, and against the batched products alone.

Run ``python benchmarks/groups.py [--write FILE]``. The rows of the classes are mixed, so that they have to be sorted.
The loop is over some of the classes: the score as the authors' package computes it (a covariance and its singular
values), which is one of the numbers that `measure_groups` returns, and `measure`, which returns all of them. The
products are NumPy's of the sorted points, X·Xᵀ of each class. Times are taken in turn; ratios are medians.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import timing
import torch
from IsoScore.IsoScore import IsoScore
from numpy.typing import NDArray
from tables import HERE, report, with_write

import isoscore_star as iso

CLASSES = ((100_000, 20, 64), (5_000, 20, 768), (1_000, 500, 64), (100_000, 20, 3))
ROUNDS, SAMPLE = 3, 20
_BATCH = 2**18
"""Numbers of the points that are multiplied at a time, as in `measure_groups`: of all at once products are slower."""


def products(points: NDArray[np.float64]) -> None:
    step = max(1, _BATCH // points[0].size)
    for start in range(0, len(points), step):
        part = points[start : start + step]
        part @ part.transpose(0, 2, 1) if points.shape[1] <= 2 * points.shape[2] else part.transpose(0, 2, 1) @ part


def row(classes: int, count: int, dim: int) -> str:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(classes * count, dim))
    labels = rng.permutation(np.repeat(np.arange(classes), count))
    batched = points.reshape(classes, count, dim)
    sample = [np.ascontiguousarray(cloud) for cloud in batched[:SAMPLE]]
    tensors = [torch.from_numpy(cloud) for cloud in sample]
    jobs: dict[str, timing.Job] = {
        "ours": lambda: iso.measure_groups(points, by=labels),
        "whole": lambda: iso.measure(iso.Moments().update(points)),
        "products": lambda: products(batched),
        "authors": lambda: [IsoScore(cloud) for cloud in tensors],
        "measure": lambda: [iso.measure(cloud) for cloud in sample],
    }
    times = timing.in_turn(jobs, ROUNDS, {})
    for name in ("authors", "measure"):
        times[name] = [seconds * classes / SAMPLE for seconds in times[name]]
    ours, whole, bare, authors, measure = (float(np.median(times[name])) for name in jobs)
    figures = [f"{ours:.2f}", f"{whole:.2f}", f"{bare:.2f}", f"{timing.ratio(times['ours'], times['products']):.1f}"]
    for loop, name in ((authors, "authors"), (measure, "measure")):
        figures += [f"{loop:.1f}", f"{timing.ratio(times[name], times['ours']):.0f}"]
    return "| " + " | ".join([f"{classes:,}", str(count), str(dim), *figures]) + " |"


def main() -> None:
    arguments = with_write(__doc__).parse_args()
    warnings.filterwarnings("ignore", message="To copy construct from a tensor")  # in the authors' package
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    report(
        arguments.write,
        "Many small clouds at once",
        f"Made by `python benchmarks/groups.py --write benchmarks/GROUPS.md`, {HERE}, {threads} "
        f"thread{'s' if threads > 1 else ''}; medians of {ROUNDS} rounds, float64.\n\n"
        "`measure_groups`: score, unbiased score and standard error of every class, of all points, and the split.\n"
        f"The whole: of that, `Moments` of all points. Loops: of {SAMPLE} classes, times the number of classes.",
        [
            "| classes | points of each | d | measure_groups, s | the whole, s | products alone, s | times these "
            "| loop over the authors' IsoScore, s | times as long | loop over measure, s | times as long |",
            "|" + " ---: |" * 11,
        ],
        [row(*of) for of in CLASSES],
    )


if __name__ == "__main__":
    main()
