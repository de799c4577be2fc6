"""Times of several jobs taken in turn: the machine's speed drifts, the ratios of one run hardly do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Job = Callable[[], object]


def no_wait() -> None:
    """Wait for nothing: what was called is done when it returns."""


def seconds(job: Job, repetitions: int, wait: Job = no_wait) -> float:
    """Time a block of repetitions, after one that is not counted; `wait` waits for the device."""
    job()
    wait()
    start = time.perf_counter()
    for _ in range(repetitions):
        job()
    wait()
    return (time.perf_counter() - start) / repetitions


def in_turn(
    jobs: dict[str, Job], rounds: int, repetitions: dict[str, int], wait: Job = no_wait
) -> dict[str, list[float]]:
    """Time every job once in each round."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            times[name].append(seconds(job, repetitions.get(name, 1), wait))
    return times


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return quartiles(above, below)[1]


def quartiles(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Return the quartiles of the rounds' ratios: half of them lie between the first and the last."""
    first, median, last = statistics.quantiles((a / b for a, b in zip(above, below, strict=True)), method="inclusive")
    return first, median, last
