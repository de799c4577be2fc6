"""Errors of too little memory, with advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from isoscore_star import InvalidValueError
from isoscore_star.finetuning._settings import Cell, Settings


def out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error).lower()


@contextmanager
def advising_on_memory(cell: Cell, settings: Settings) -> Iterator[None]:
    """Raise InvalidValueError with a smaller batch size if memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        size, accumulated = cell.batch_size, settings.gradient_accumulation
        advice = "even with batch size 1: give a smaller --max-length, or a smaller model"
        if size > 1:
            advice = (
                f"with batch size {size}: halve it with --batch-size {size // 2} (and keep as many examples a step "
                f"with --gradient-accumulation {2 * accumulated})"
            )
        raise InvalidValueError(f"out of memory {advice}") from error
