"""What several tests of JAX share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def close(got: Any, expected: Any, share: float = 1e-12) -> bool:
    """Compare with a share of the largest entry: two orders of the same float64 sums differ by some ε."""
    return bool(np.abs(np.asarray(got) - expected).max() <= share * np.abs(expected).max())


def products(function: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """Give the matrix products that a function is traced to."""

    def walk(jaxpr: Any) -> Iterator[Any]:
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                yield equation
            for part in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from walk(inner)

    return walk(jax.make_jaxpr(function)(*arguments).jaxpr)
