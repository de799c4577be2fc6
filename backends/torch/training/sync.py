"""Whether to compute over all ranks of a distributed run, and a rank's part of common data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch.distributed as dist

from isoscore_star.backends.torch.distributed import initialised
from isoscore_star.core.errors import InvalidValueError


def checked_sync(sync: str | bool) -> str | bool:
    """Require one of "auto", True and False."""
    if isinstance(sync, bool) or (isinstance(sync, str) and sync == "auto"):  # 1 == True, but it is neither
        return sync
    raise InvalidValueError("sync", f'expected "auto", True or False; got {sync!r}')


def is_distributed(sync: str | bool = "auto") -> bool:
    """Return whether to compute over all ranks of a distributed run.

    Parameters
    ----------
    sync : {"auto", True, False}, default "auto"
        ``"auto"``: if `torch.distributed` is initialised with several ranks.

    Returns
    -------
    bool

    Raises
    ------
    InvalidValueError
        If `sync` is True, but `torch.distributed` is not initialised.
    """
    if sync is True and not initialised():
        raise InvalidValueError(
            "sync",
            "True means the points of all ranks, but torch.distributed is not initialised. Start by torchrun "
            'and call torch.distributed.init_process_group() first, or leave sync at "auto"',
        )
    return sync is True or (sync == "auto" and initialised() and dist.get_world_size() > 1)


class RankPart:
    """A rank's part of data that all ranks have in the same order; without a distributed run all of it.

    Parameters
    ----------
    data : iterable
        Batches, or texts. Its ``generator``, if any, is kept.
    sync : {"auto", True, False}, default "auto"
        As `is_distributed` takes it.
    """

    def __init__(self, data: Iterable[Any], sync: str | bool = "auto") -> None:
        self.data = data
        self.sync = sync
        self.generator = getattr(data, "generator", None)

    def __iter__(self) -> Iterator[Any]:
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if is_distributed(self.sync) else (0, 1)
        return islice(self.data, rank, None, ranks)
