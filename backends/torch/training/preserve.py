"""Evaluation during training that preserves modules' modes and generators' states."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode inside a with block, and restore each module's mode.

    Parameters
    ----------
    model : nn.Module
        The model.
    """
    modes = [(module, module.training) for module in model.modules()]
    # In evaluation mode nn.TransformerEncoder converts padded batches to nested tensors, which no mask fits, and drops
    # columns that no sequence fills (pytorch/pytorch#97111, open as of torch 2.13).
    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def preserve_rng_state(device: torch.device | None = None, loader: Any = None) -> Iterator[None]:
    """Restore the random generators of Python, NumPy and torch at the end of a with block.

    Parameters
    ----------
    device : torch.device, optional
        A CUDA device whose generator is restored too.
    loader : object, optional
        An object whose ``generator``, if it has one, is restored too.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    generator = getattr(loader, "generator", None)
    loader_state = generator.get_state() if isinstance(generator, torch.Generator) else None
    try:
        with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if isinstance(generator, torch.Generator) and loader_state is not None:
            generator.set_state(loader_state)
