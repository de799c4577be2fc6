"""How measuring on a Dask cluster scales: twice the points on two workers, and the exponents in points and dimensions.

Run ``python benchmarks/clusters.py [--write FILE]``. A local cluster of one-thread worker processes, which hold their
chunks in memory; what is timed is the reduction to the score of halves, and the second pass of its standard error. The
model of costs is arithmetic, at the rate of multiplication that was measured.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import numpy as np

import isoscore_star as iso

TOKENS, ROUNDS = 16, 5
ROWS, DIM = 65_536, 384
OTHER_ROWS, OTHER_DIMS = (16_384, 32_768, 65_536), (192, 384, 768)
CHUNKS = 8  # of each worker
MODELLED = ((10**7, 768), (10**9, 768), (10**9, 4096), (10**10, 8192))


def states(workers: list[str], rows: int, dim: int) -> Any:
    """Give each worker so many points, in chunks that stay there."""
    import dask

    sequences, parts = rows // TOKENS, []
    for number, worker in enumerate(workers):
        with dask.annotate(workers=[worker], allow_other_workers=False):
            rng = da.random.default_rng(number)
            drawn = rng.normal(size=(sequences, TOKENS, dim), chunks=(sequences // CHUNKS, TOKENS, dim))
            parts.append(drawn.persist(optimize_graph=False))
    whole = da.concatenate(parts)
    distributed.wait(parts)
    return whole


def seconds(client: Any, job: Callable[[], object]) -> tuple[float, float]:
    """Return the time of a job, and the processor time of all workers."""
    before, start = sum(client.run(time.process_time).values()), time.perf_counter()
    job()
    took = time.perf_counter() - start
    return took, sum(client.run(time.process_time).values()) - before


def exponent(sizes: tuple[int, ...], times: list[float]) -> float:
    """Fit the power of a size by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def bytes_in_words(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} EB"


def modelled(count: int, dim: int, rate: float) -> str:
    """Compute what a set of float32 token states costs: once for the score, twice the reading for its error."""
    first, second = count * dim**2, 2 * count * dim**2
    moments = 2 * 8 * dim**2
    return (
        f"| {count:.0e} of d = {dim:,} | {bytes_in_words(4.0 * count * dim)} | {first:.1e} | {second:.1e} | "
        f"{bytes_in_words(moments)} | {bytes_in_words(5 * moments)} | {first / rate / 3600:,.3g} | "
        f"{(first + second) / rate / 3600:,.3g} |"
    )


def table() -> str:
    settings = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "dashboard_address": ":0",
        "silence_logs": logging.CRITICAL,
        "memory_limit": "4GB",
    }
    load = os.getloadavg()[0]
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        both = list(client.scheduler_info()["workers"])
        arrays = {number: states(both[:number], ROWS, DIM) for number in (1, 2)}
        jobs: dict[tuple[str, int], Callable[[], object]] = {}
        for number, X in arrays.items():
            jobs["score of halves", number] = lambda X=X: iso.isoscore_unbiased(X)  # type: ignore[misc]
            jobs["with standard error", number] = lambda X=X: iso.measure(X)  # type: ignore[misc]
        times: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in jobs}
        for job in jobs.values():
            job()
        for _ in range(ROUNDS):
            for key, job in jobs.items():
                times[key].append(seconds(client, job))
        rows = []
        for name in ("score of halves", "with standard error"):
            (one, its_cpu), (two, their_cpu) = (zip(*times[name, number], strict=True) for number in (1, 2))
            ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
            work = statistics.median(b / 2 / a for a, b in zip(its_cpu, their_cpu, strict=True))
            medians = f"{statistics.median(one):.2f} | {statistics.median(two):.2f}"
            rows.append(f"| {name} | {medians} | {ratio:.2f} | {work:.2f} |")
        by_rows, by_dim = list[float](), list[float]()
        for sizes, found in ([(n, DIM) for n in OTHER_ROWS], by_rows), ([(ROWS, d) for d in OTHER_DIMS], by_dim):
            for size in sizes:
                X = states(both[:1], *size)
                job = partial(iso.isoscore_unbiased, X)
                job()
                found.append(statistics.median(seconds(client, job)[1] for _ in range(ROUNDS)))
    rate = ROWS * OTHER_DIMS[-1] ** 2 / by_dim[-1]
    return "\n".join(
        [
            "# On a cluster",
            "",
            f"Made by `python benchmarks/clusters.py --write benchmarks/CLUSTERS.md`, Dask {distributed.__version__}, "
            f"NumPy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores, medians of {ROUNDS} rounds. The "
            f"load of the minute before was {load:.1f}: so many processes of others ran or waited for a core. Unless "
            "it is near 0, two workers have less than two cores, and only the processor times can be trusted.",
            "",
            "## Weak scaling",
            "",
            f"{ROWS:,} float64 token states of d = {DIM} for each worker, in {CHUNKS} chunks in its memory. Perfect is "
            "a ratio of 1: twice the points on two workers in the time of one. Ratios are of one round; that of the "
            "processor time is for each point.",
            "",
            "| | 1 worker, s | 2 workers, s | ratio | processor time, ratio |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            f"Fitted to the processor time of one worker: points^{exponent(OTHER_ROWS, by_rows):.2f} "
            f"({', '.join(f'{n:,}' for n in OTHER_ROWS)} points; the multiplication alone has exponent 1) and "
            f"d^{exponent(OTHER_DIMS, by_dim):.2f} (d = {', '.join(map(str, OTHER_DIMS))}; it alone has 2).",
            "",
            "## What large sets cost",
            "",
            "Arithmetic, not measured: float32 token states are read once for the score (md² operations, by symmetry "
            "half of a general product) and once more for its standard error (2md²). Moments are of two halves (2·8d² "
            "bytes); a merge has four of them and the result, which is a worker's peak besides its chunks. Core hours "
            f"are at {rate / 1e9:.3g} operations a nanosecond, the rate of one worker above at d = {OTHER_DIMS[-1]}, "
            "without the time of reading.",
            "",
            "| points | bytes, once | operations, score | in addition, error | moments | peak of a merge | "
            "core hours, score | with error |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(modelled(count, dim, rate) for count, dim in MODELLED),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    text = table()
    print(text)
    if arguments.write:
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
