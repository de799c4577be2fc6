"""Wrappers of a model, and compiled code switched off for a while, which knows nothing of later hooks."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_SHARDED = "FullyShardedDataParallel"


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DDP, FSDP and `torch.compile`."""
    while True:
        inner: Any = getattr(model, "_orig_mod", None)  # of torch.compile
        if inner is None and (isinstance(model, DistributedDataParallel) or type(model).__name__ == _SHARDED):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


class Eagerly:
    """Runs compiled code uncompiled between `begin` and `end`; `torch.compiler.set_stance` came with torch 2.6."""

    def __init__(self) -> None:
        self._stance: Any = None

    def begin(self) -> None:
        """Switch compiled code off, if anything is compiled: without its module, which is slow to load, nothing is."""
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance") and self._stance is None:
            self._stance = torch.compiler.set_stance("force_eager")  # holds from now on

    def end(self) -> None:
        """Set what was before."""
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None
