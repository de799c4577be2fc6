"""Whose array X is, is asked once a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from adapters import Adapter, random_cov

import isoscore_star as iso

CALLS: dict[str, Callable[..., Any]] = {
    "isoscore": lambda X, cov, mask: iso.isoscore(X, mask=mask),
    "isoscore_star": lambda X, cov, mask: iso.isoscore_star(X, cov, 0.3, mask=mask),
    "isoscore_unbiased": lambda X, cov, mask: iso.isoscore_unbiased(X, mask=mask),
    "istar_loss": lambda X, cov, mask: iso.istar_loss(X, cov, 0.3, 0.5, mask=mask),
    "istar_loss, unbiased": lambda X, cov, mask: iso.istar_loss(X, mask=mask, estimator="unbiased"),
    "istar_loss, checked": lambda X, cov, mask: iso.istar_loss(X, cov, 0.3, mask=mask, check_values=True),
}


def lookups(call: Callable[[], Any]) -> int:
    """Count runs of `backend_of` itself, by whatever name it was imported."""
    counted = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event == "call" and frame.f_code is iso.backend_of.__code__

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize("name", CALLS)
def test_backend_of_runs_once_a_call(name: str, backend: Adapter, rng: np.random.Generator) -> None:
    points, cov, mask = rng.normal(size=(5, 8, 5)), random_cov(rng, 5), rng.random((5, 8)) < 0.9
    X, native_cov, native_mask = backend.native(points), backend.native(cov), backend.native(mask.astype(float))

    def call() -> None:
        CALLS[name](X, native_cov, native_mask)

    call()  # which loads the backend
    assert lookups(call) == 1


def test_a_second_lookup_would_be_counted() -> None:
    X = np.eye(3)
    assert lookups(lambda: (iso.backend_of(X), iso.isoscore(X))) == 2
