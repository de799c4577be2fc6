"""Random generators that are left as they were, so that training goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def undisturbed_generators(device: torch.device | None = None) -> Iterator[None]:
    """Put the global generators of Python, NumPy and torch (on the CPU and one device) back at the end."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = device is not None and device.type == "cuda"
    try:
        with torch.random.fork_rng([device] if cuda else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
