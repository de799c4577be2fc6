"""Whether a torch loss computes with all ranks of a distributed run together."""

from __future__ import annotations

import torch

from isoscore_star.core.errors import InvalidValueError


def checked_sync(sync: str | bool) -> str | bool:
    """Require one of "auto", True and False."""
    if isinstance(sync, bool) or (isinstance(sync, str) and sync == "auto"):  # 1 == True, but it is neither
        return sync
    raise InvalidValueError("sync", f'expected "auto", True or False; got {sync!r}')


def synchronised(sync: str | bool) -> bool:
    """Return whether to compute with all ranks together."""
    if sync is not True:
        distributed = torch.distributed
        together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        return sync == "auto" and together
    return True
