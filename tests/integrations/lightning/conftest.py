"""What Lightning advises is no error here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        # What Lightning advises on workers, on devices, and of torch's own deprecations.
        for message in (".*does not have many workers.*", ".*LeafSpec.*", ".*sampler has shuffling.*"):
            warnings.filterwarnings("ignore", message)
        warnings.filterwarnings("ignore", module="lightning")
        yield
