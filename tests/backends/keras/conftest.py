"""Points for the tests of Keras."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=(48, 6)) @ rng.normal(size=(6, 6))).astype("float32")
