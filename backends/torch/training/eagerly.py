"""Wrappers of a model, and compiled code switched off for a while, which knows nothing of later hooks."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

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
    """Runs compiled code uncompiled between `begin` and `end`; `torch.compiler.set_stance` came with torch 2.6.

    The stance is the process's: the first of several that begin sets it, and the last that ends, or is gone, sets what
    was before.
    """

    _begun: ClassVar[set[int]] = set()
    _stance: ClassVar[Any] = None

    def begin(self) -> None:
        """Switch compiled code off, if anything is compiled: without its module, which is slow to load, nothing is."""
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            if not Eagerly._begun:
                Eagerly._stance = torch.compiler.set_stance("force_eager")  # holds from now on
            Eagerly._begun.add(id(self))

    def end(self) -> None:
        """Set what was before."""
        if id(self) in Eagerly._begun:
            Eagerly._begun.remove(id(self))
            if not Eagerly._begun:
                Eagerly._stance.__exit__(None, None, None)

    def __del__(self) -> None:
        self.end()
