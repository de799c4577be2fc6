"""Evaluation in the midst of training that leaves no trace in it: modules keep their modes, generators their states."""

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
    """Put a model in evaluation mode inside a with block; each of its modules gets its own mode back.

    Parameters
    ----------
    model : nn.Module
        The model.
    """
    modes = [(module, module.training) for module in model.modules()]
    # In evaluation nn.TransformerEncoder hands padded batches on as nested tensors, which no mask fits, and cuts off
    # what no sequence fills (pytorch/pytorch#97111, open as of torch 2.13).
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
    """Put random generators back at the end of a with block: those of Python, NumPy and torch.

    Parameters
    ----------
    device : torch.device, optional
        Besides the CPU, the device whose generator is put back; only that of a CUDA device is.
    loader : object, optional
        Batches whose own ``generator``, if they have one, is put back, too.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    own = getattr(loader, "generator", None)
    of_loader = own.get_state() if isinstance(own, torch.Generator) else None
    try:
        with torch.random.fork_rng([device] if device is not None and device.type == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        if isinstance(own, torch.Generator) and of_loader is not None:
            own.set_state(of_loader)
