"""What each estimator of the loss costs, as a multiple of one bare product of the points' shape.

Run ``python benchmarks/estimators.py [--quick] [--threads N] [--write FILE]``. Forward and backward of `istar_loss` and
`IStarLoss` on sequences of 8 tokens, float32, d = 768, timed in turn in the same run; medians, and quartiles of the
rounds' ratios. The bare product is X·C, (m, d) by (d, d), forward alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from timing import Job, in_turn, no_wait, quartiles

import isoscore_star as iso
from isoscore_star.backends.torch import IStarLoss
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.low_rank import LeadingDirections
from isoscore_star.core.score import anchored_score

DIM, TOKENS, RANK, THREADS, ZETA = 768, 8, 64, 2, 0.2
POINTS = (32, 1024, 4096, 12288)
PRODUCT = "X·C alone"


def jobs(points: int, device: str = "cpu") -> dict[str, Job]:
    torch.manual_seed(0)
    states = torch.randn(points // TOKENS, TOKENS, DIM).to(device).requires_grad_()
    cov = torch.cov(torch.randn(4 * DIM, DIM).T).to(device)
    rows = states.detach().reshape(-1, DIM)

    def loss(**arguments: Any) -> Job:
        def job() -> None:
            states.grad = None
            iso.istar_loss(states, **arguments).backward()

        return job

    def module(rank: int | None) -> Job:
        penalty = IStarLoss(DIM, 1.0, ZETA, estimator="anchored", rank=rank).to(device)

        def job() -> None:
            states.grad = None
            penalty(states).backward()  # type: ignore[no-untyped-call]

        return job

    def without_log(rank: int) -> Job:
        directions = LeadingDirections(DIM, rank).to(device)
        flat = states.reshape(-1, DIM)

        def job() -> None:
            states.grad = None
            invariants = BACKEND.anchored([flat], [None], cov, directions=directions)
            anchored_score(invariants, DIM, torch.where).backward(retain_graph=True)

        return job

    return {
        PRODUCT: lambda: rows @ cov,
        f"the paper's, ζ = {ZETA}": loss(shrinkage_cov=cov, zeta=ZETA),
        "two halves": loss(estimator="unbiased"),
        "independent points": loss(estimator="unbiased", groups=None),
        "anchored": loss(shrinkage_cov=cov, estimator="anchored"),
        f"anchored, rank {RANK}": without_log(RANK),
        "anchored, with its running Σ_S and its log": module(None),
        f"anchored, rank {RANK}, with its running Σ_S and its log": module(RANK),
    }


def report(rounds: int, sizes: tuple[int, ...], threads: int) -> str:
    torch.set_num_threads(threads)
    return "\n".join(
        [
            "# Estimators of the loss",
            "",
            f"Made by `benchmarks/estimators.py` on {os.cpu_count()} cores ({platform.machine()}), Python "
            f"{platform.python_version()}, torch {torch.__version__}, threads: {threads}.",
            f"Forward and backward, float32, d = {DIM}; ms, and as a multiple of one product X·C (half of the rounds).",
            "",
            *table(rounds, sizes),
            "",
        ]
    )


def table(rounds: int, sizes: tuple[int, ...], device: str = "cpu", wait: Job = no_wait) -> list[str]:
    lines = [
        "| loss | " + " | ".join(f"{m:,} points" for m in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    times = {}
    for m in sizes:
        timed = jobs(m, device)
        repetitions = max(1, 2048 // m) if device == "cpu" else 20
        times[m] = in_turn(timed, rounds, dict.fromkeys(timed, repetitions), wait)
    for name in times[sizes[0]]:
        cells = []
        for m in sizes:
            milliseconds = 1000 * statistics.median(times[m][name])
            first, median, last = quartiles(times[m][name], times[m][PRODUCT])
            many = "" if name == PRODUCT else f": {median:.2f} ({first:.2f}-{last:.2f})"
            cells.append(f"{milliseconds:.2f}{many}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of the small sizes")
    parser.add_argument("--threads", type=int, default=THREADS, help="of torch (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    rounds, sizes = (2, POINTS[:2]) if options.quick else (15, POINTS)
    text = report(rounds, sizes, options.threads)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
