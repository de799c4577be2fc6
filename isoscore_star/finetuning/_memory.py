"""Running out of memory, in the words of each library."""

from __future__ import annotations

import torch


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error).lower()
