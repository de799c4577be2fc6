"""What several tests of TensorFlow share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def products(function: Callable[[Any], Any], shape: list[int | None]) -> int:
    """Count the matrix products that the outputs of a traced function depend on."""
    graph = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float64)).graph
    seen, queue = set(), [tensor.op for tensor in graph.outputs]
    while queue:
        op = queue.pop()
        if op not in seen:
            seen.add(op)
            queue += [tensor.op for tensor in op.inputs]
    return sum("MatMul" in op.type for op in seen)
