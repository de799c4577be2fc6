"""Quick test of whether the Hugging Face hub answers: its clients try for a minute before they fail."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from isoscore_star import InvalidValueError

WAYS = "Give the folder of a saved model, or the name of one on the Hugging Face hub (with a network, or in the cache)"


@functools.cache
def has_model(name: str) -> bool:
    """Return whether the hub has a model; False if it does not answer, so that only the cache may have it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InvalidValueError(
            "model", f"{name!r} is no folder here, and the Hugging Face hub has no public model of that name. {WAYS}"
        ) from error
    except Exception:  # of an unreachable server, which has many names
        return False
    return True


@contextmanager
def offline_if_unreachable(dataset: str) -> Iterator[None]:
    """Make ``datasets`` use only its cache if the hub does not answer for a dataset."""
    import datasets
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(dataset, timeout=10)
    except Exception:  # as above
        switches: list[Any] = [datasets.config, huggingface_hub.constants]
    else:
        switches = []
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value
