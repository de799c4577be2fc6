"""Forward and backward of the I-STAR loss in torch, and measuring in NumPy, against the authors' package and products.

Run ``make benchmark``, or ``python benchmarks/run.py [--quick] [--write FILE]``. Everything of a row is timed in turn
in the same run, each as a block of repetitions after one that is not counted, and medians of the ratios are printed:
the machine's speed drifts, ratios hardly do.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from IsoScore.IsoScore import istar
from timing import Job, in_turn, no_wait, quartiles, ratio

import isoscore_star as iso

DIM, ZETA, THREADS = 768, 0.2, 2
REQUIRED = {32: 90.0, 256: 20.0, 1024: 7.0, 4096: 3.0, 12288: 2.0, 49152: 1.7}


def forward_and_backward(loss: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> Job:
    def job() -> None:
        leaf = points.detach().requires_grad_()
        loss(leaf).backward()  # type: ignore[no-untyped-call]

    return job


LOSS_TABLE = (
    "| m | authors, ms | ours, ms | unbiased, ms | two products, ms | times faster (half of the rounds) | wanted "
    "| ours / products |",
    "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def loss_jobs(rows: int, device: str) -> dict[str, Job]:
    torch.manual_seed(rows)
    points, weight = (torch.randn(rows, DIM) + 1).to(device), torch.randn(DIM, DIM).to(device)
    cov = torch.cov(torch.randn(4 * DIM, DIM).T).to(device)
    authors = istar()

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(1 - authors.IsoScore_star(x, cov, ZETA, is_eval=False, gpu_id=device))

    return {
        "authors": forward_and_backward(theirs, points),
        "ours": forward_and_backward(lambda x: iso.istar_loss(x, cov, ZETA), points),
        "unbiased": forward_and_backward(lambda x: iso.istar_loss(x, estimator="unbiased"), points),
        "products": lambda: (points.T @ points, points @ weight),
    }


def loss_row(rows: int, rounds: int, wanted: dict[int, float], few: int, device: str = "cpu") -> str:
    wait = torch.cuda.synchronize if device == "cuda" else no_wait
    repetitions = dict.fromkeys(("ours", "unbiased", "products"), few)
    times = in_turn(loss_jobs(rows, device), rounds, repetitions, wait)
    milliseconds = {name: 1000 * statistics.median(values) for name, values in times.items()}
    slow, faster, fast = quartiles(times["authors"], times["ours"])
    return (
        f"| {rows} | {milliseconds['authors']:.1f} | {milliseconds['ours']:.2f} | {milliseconds['unbiased']:.2f} "
        f"| {milliseconds['products']:.2f} | {faster:.1f} ({slow:.1f} to {fast:.1f}) "
        f"| {wanted[rows]:g} | {ratio(times['ours'], times['products']):.2f} |"
    )


def measuring_row(rows: int, rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npy"
        generator = np.random.default_rng(0)
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, DIM))
        for start in range(0, rows, 10_000):
            part = mapped[start : start + 10_000]
            part[:] = generator.normal(size=part.shape)
        mapped.flush()

        def products() -> None:
            points = np.load(path, mmap_mode="r")
            total = np.zeros((DIM, DIM))
            for start in range(0, rows, 8192):
                block = np.array(points[start : start + 8192])
                total += block.T @ block

        def ours() -> None:
            iso.Moments().update(np.load(path, mmap_mode="r")).isoscore_unbiased()

        times = in_turn({"products": products, "ours": ours}, rounds, {})
    return (
        f"| {rows} | {statistics.median(times['products']):.2f} | {statistics.median(times['ours']):.2f} "
        f"| {ratio(times['ours'], times['products']):.2f} |"
    )


def report(quick: bool) -> str:
    torch.set_num_threads(THREADS)
    sizes = [32, 1024] if quick else list(REQUIRED)
    lines = [
        "# The loss, and measuring a file",
        "",
        f"Made by `make benchmark` (`benchmarks/run.py`) on {THREADS} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}. Medians; ratios are of times "
        "taken in turn in the same run.",
        "",
        f"## The loss, forward and backward: float32, d = {DIM}, ζ = {ZETA}",
        "",
        "Against the authors' `istar().IsoScore_star(X, C0, zeta, is_eval=False)` and against two bare products of the",
        "same shape, `X.T @ X` and `X @ W` in torch. Wanted: at least so many times faster than the authors, and for",
        "m ≥ 1024 no more than 1.3 times the products.",
        "",
        *LOSS_TABLE,
        *(loss_row(rows, 3 if quick else 7 if rows > 10_000 else 15, REQUIRED, max(1, 3000 // rows)) for rows in sizes),
        "",
        f"## Measuring a file: float32, d = {DIM}",
        "",
        "`Moments().update(...)` of a memory-mapped file and its unbiased score, against reading the same blocks and",
        "NumPy's `X.T @ X` of each (a symmetric product). Wanted: no more than 1.3 times that.",
        "",
        "| m | products and read, s | ours, s | ours / products |",
        "| ---: | ---: | ---: | ---: |",
        measuring_row(20_000 if quick else 250_000, 3),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes and a small file")
    parser.add_argument("--write", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    text = report(options.quick)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
