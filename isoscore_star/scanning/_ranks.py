"""Several processes, as torchrun starts them: each takes whole blocks, and the first gets all moments."""

from __future__ import annotations

import os
from typing import Any, NamedTuple


class Ranks(NamedTuple):
    """The number of this process, and how many there are."""

    rank: int = 0
    size: int = 1
    group: Any = None

    def owns(self, block: int) -> bool:
        """Return whether a block is this process's: whole blocks, so that every sum is added up as by one process."""
        return block % self.size == self.rank

    def agreed(self, value: Any) -> Any:
        """Return the first process's value."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        holder = [value]
        dist.broadcast_object_list(holder, src=0, group=self.group)
        return holder[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return all processes' values in the first process, and nothing in the others."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, found, dst=0, group=self.group)
        return found or []


def ranks() -> Ranks:
    """Join the other processes, if torchrun started this one or torch.distributed is at work."""
    started = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not started:
        import sys

        if "torch.distributed" not in sys.modules:
            return Ranks()
    import torch.distributed as dist

    if not dist.is_available() or not (started or dist.is_initialized()):
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    if dist.get_world_size() == 1:
        return Ranks()
    # Objects travel between hosts, whatever backend the job's own group has.
    group = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), group)
