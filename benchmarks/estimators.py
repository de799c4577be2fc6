"""What each estimator of the loss costs, as a multiple of one bare product of the points' shape.

Run ``python benchmarks/estimators.py [--quick] [--write FILE]``. Forward and backward of `istar_loss` and `IStarLoss`
on sequences of 8 tokens, float32, d = 768, timed in turn in the same run; medians, and quartiles of the rounds'
ratios. The bare product is X·C, (m, d) by (d, d), forward alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from timing import Job, in_turn, quartiles

import isoscore_star as iso
from isoscore_star.backends.torch import IStarLoss

DIM, TOKENS, THREADS, ZETA = 768, 8, 2, 0.2
POINTS = (32, 1024, 4096, 12288)
PRODUCT = "X·C alone"


def jobs(points: int) -> dict[str, Job]:
    torch.manual_seed(0)
    states = torch.randn(points // TOKENS, TOKENS, DIM, requires_grad=True)
    cov = torch.cov(torch.randn(4 * DIM, DIM).T)
    rows, running = states.detach().reshape(-1, DIM), IStarLoss(DIM, estimator="anchored")

    def loss(**arguments: Any) -> Job:
        def job() -> None:
            states.grad = None
            iso.istar_loss(states, **arguments).backward()

        return job

    def module() -> None:
        states.grad = None
        running(states).backward()  # type: ignore[no-untyped-call]

    return {
        PRODUCT: lambda: rows @ cov,
        f"the paper's, ζ = {ZETA}": loss(shrinkage_cov=cov, zeta=ZETA),
        "two halves": loss(estimator="unbiased"),
        "independent points": loss(estimator="unbiased", groups=None),
        "anchored": loss(shrinkage_cov=cov, estimator="anchored"),
        "anchored, with its running Σ_S and its log": module,
    }


def report(rounds: int, sizes: tuple[int, ...]) -> str:
    torch.set_num_threads(THREADS)
    lines = [
        "# Estimators of the loss",
        "",
        f"Made by `benchmarks/estimators.py` on {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, torch {torch.__version__}, {THREADS} threads.",
        f"Forward and backward, float32, d = {DIM}; ms, and as a multiple of one product X·C (half of the rounds).",
        "",
        "| loss | " + " | ".join(f"{m:,} points" for m in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    times = {m: in_turn(jobs(m), rounds, dict.fromkeys(jobs(m), max(1, 2048 // m))) for m in sizes}
    for name in times[sizes[0]]:
        cells = []
        for m in sizes:
            milliseconds = 1000 * statistics.median(times[m][name])
            first, median, last = quartiles(times[m][name], times[m][PRODUCT])
            many = "" if name == PRODUCT else f": {median:.2f} ({first:.2f}-{last:.2f})"
            cells.append(f"{milliseconds:.2f}{many}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of the small sizes")
    parser.add_argument("--write", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    text = report(2, POINTS[:2]) if options.quick else report(15, POINTS)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
