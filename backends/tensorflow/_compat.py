"""Private names of tf_keras, each with the version that has no public one."""

from __future__ import annotations

import sys
from typing import Any


def is_placeholder(array: object) -> bool:
    """Return whether the array is a placeholder of a functional tf_keras model.

    Its class is public in ``tf_keras.__internal__`` alone (2.21), which is imported before any placeholder exists.
    """
    internal: Any = sys.modules.get("tf_keras.__internal__")
    return internal is not None and isinstance(array, internal.KerasTensor)
