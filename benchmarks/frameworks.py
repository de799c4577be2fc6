"""Forward and backward of I-STAR in TensorFlow and JAX, compiled, against the same score by that framework's SVD.

Run ``make benchmark``, or ``python benchmarks/frameworks.py [--quick] [--write FILE]``. Medians of the ratios of times
that were taken in turn in the same run; each framework in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import Job, in_turn, ratio

import isoscore_star as iso

DIM, ZETA = 768, 0.2
SIZES = (32, 256, 1024, 4096, 12288)
WANTED = {256: "20 times faster", 4096: "1.5 products", 12288: "1.5 products"}


def by_singular_values(
    points: Any, cov: Any, square: Callable[[Any], Any], svd: Callable[[Any], Any], total: Callable[..., Any]
) -> Any:
    """Write 1 − IsoScore* the obvious way: covariance, shrinkage, singular values, Algorithm 1."""
    centred = points - total(points, 0) / points.shape[0]
    values = svd((1 - ZETA) * square(centred) / (points.shape[0] - 1) + ZETA * cov)
    values = DIM**0.5 * values / total(values * values) ** 0.5
    defect = total((values - 1) ** 2) / (2 * (DIM - DIM**0.5))
    share = (DIM - defect * (DIM - DIM**0.5)) ** 2 / DIM**2
    return 1 - (DIM * share - 1) / (DIM - 1)


def jax_jobs(points: np.ndarray[Any, Any], cov: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> dict[str, Job]:
    import jax
    import jax.numpy as jnp

    X, C, W = jnp.asarray(points), jnp.asarray(cov), jnp.asarray(weight)
    ours = jax.jit(jax.value_and_grad(lambda x, c: iso.istar_loss(x, c, ZETA)))
    unbiased = jax.jit(jax.value_and_grad(lambda x: iso.istar_loss(x, estimator="unbiased")))

    def product(a: Any, b: Any) -> Any:  # in whole float32 on an accelerator too, as ours
        return jnp.matmul(a, b, precision="highest")

    def singular_loss(x: Any, c: Any) -> Any:
        return by_singular_values(x, c, lambda a: product(a.T, a), partial(jnp.linalg.svd, compute_uv=False), jnp.sum)

    singular = jax.jit(jax.value_and_grad(singular_loss))
    products = jax.jit(lambda x, w: (product(x.T, x), product(x, w)))
    return {
        "svd": lambda: singular(X, C)[1].block_until_ready(),
        "ours": lambda: ours(X, C)[1].block_until_ready(),
        "unbiased": lambda: unbiased(X)[1].block_until_ready(),
        "products": lambda: products(X, W)[1].block_until_ready(),
    }


def tensorflow_jobs(
    points: np.ndarray[Any, Any], cov: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]
) -> dict[str, Job]:
    import tensorflow as tf

    X, C, W = map(tf.convert_to_tensor, (points, cov, weight))

    def value_and_gradient(loss: Callable[[Any], Any]) -> Job:
        def job() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(X)
                value = loss(X)
            return value, tape.gradient(value, X)

        compiled = tf.function(job, autograph=False)
        return lambda: compiled()[1].numpy()[0, 0]

    def square(x: Any) -> Any:
        return tf.matmul(x, x, transpose_a=True)

    def singular_loss(x: Any) -> Any:
        return by_singular_values(x, C, square, partial(tf.linalg.svd, compute_uv=False), tf.reduce_sum)

    bare = tf.function(lambda: (square(X), X @ W), autograph=False)
    return {
        "svd": value_and_gradient(singular_loss),
        "ours": value_and_gradient(lambda x: iso.istar_loss(x, C, ZETA)),
        "unbiased": value_and_gradient(lambda x: iso.istar_loss(x, estimator="unbiased")),
        "products": lambda: bare()[1].numpy()[0, 0],
    }


JOBS = {"tensorflow": tensorflow_jobs, "jax": jax_jobs}


def row(framework: str, rows: int, rounds: int) -> str:
    rng = np.random.default_rng(rows)
    points = (rng.normal(size=(rows, DIM)) + 1).astype(np.float32)
    cov = np.cov(rng.normal(size=(4 * DIM, DIM)).T).astype(np.float32)
    jobs = JOBS[framework](points, cov, rng.normal(size=(DIM, DIM)).astype(np.float32))
    few = max(1, 1500 // rows)
    times = in_turn(jobs, rounds, {"ours": few, "unbiased": few, "products": few})
    milliseconds = {name: 1000 * statistics.median(values) for name, values in times.items()}
    return (
        f"| {rows} | {milliseconds['svd']:.0f} | {milliseconds['ours']:.2f} | {milliseconds['unbiased']:.2f} "
        f"| {milliseconds['products']:.2f} | {ratio(times['svd'], times['ours']):.1f} "
        f"| {ratio(times['ours'], times['products']):.2f} | {WANTED.get(rows, '')} |"
    )


def table(framework: str, sizes: Sequence[int], quick: bool) -> str:
    version = __import__(framework).__version__
    return "\n".join(
        [
            f"## {framework} {version}",
            "",
            "| m | SVD, ms | ours, ms | unbiased, ms | two products, ms | times faster | ours / products | wanted |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(row(framework, rows, 3 if quick or rows > 4096 else 5) for rows in sizes),
            "",
        ]
    )


def report(quick: bool) -> str:
    title = [
        "# Benchmarks of TensorFlow and JAX",
        "",
        f"Made by `make benchmark` (`benchmarks/frameworks.py`) on {os.cpu_count()} cores ({platform.machine()}),",
        f"Python {platform.python_version()}. float32, d = {DIM}, ζ = {ZETA}. Value and gradient, compiled "
        "(`tf.function`, `jax.jit`),",
        "against Algorithm 1 with that framework's SVD, and against the bare products `X.T @ X` and `X @ W`. Medians;",
        "ratios are of times taken in turn in the same run. Keras runs the same code, on torch's backend too.",
        "",
        "",
    ]
    parts = []
    for framework in JOBS:
        command = [sys.executable, __file__, "--only", framework, *(["--quick"] if quick else [])]
        parts.append(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return "\n".join(title) + "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes")
    parser.add_argument("--only", choices=JOBS, help="one framework, in this process")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="m, with --only (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="write the tables to this file too")
    options = parser.parse_args()
    sizes = options.sizes[:2] if options.quick else options.sizes
    text = table(options.only, sizes, options.quick) if options.only else report(options.quick)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
