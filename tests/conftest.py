"""Every test of the core runs over every installed backend: an adapter each says how to hand over and differentiate."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from adapters import ADAPTERS, Adapter
from hypothesis import settings

import isoscore_star as iso

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow tells of its build at every import

settings.register_profile("default", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("default")

# A skip must not hide a hole: CI names here the backends that have to be there.
REQUIRED = os.environ.get("ISOSCORE_REQUIRED_BACKENDS", "").split()

# With ISOSCORE_FRAMEWORKS="jax", say, every other framework is as if it were not installed: a backend has to do with
# its own framework alone.
if "ISOSCORE_FRAMEWORKS" in os.environ:
    for _framework in {"torch", "autograd", "tensorflow", "tf_keras", "keras", "jax"}:
        if _framework not in os.environ["ISOSCORE_FRAMEWORKS"].split():
            sys.modules[_framework] = None  # type: ignore[assignment]


def _installed(name: str) -> Adapter:
    if name not in iso.available_backends():
        if name in REQUIRED:
            pytest.fail(f"the {name} backend is required here, but {name} is not installed")
        pytest.skip(f"{name} is not installed")
    return ADAPTERS[name]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark slow all but the first case of a `sampled` test, for each backend and value of the parameters it names."""
    seen = set()
    for item in items:
        for marker in item.iter_markers("sampled"):
            params = item.callspec.params
            case = (
                item.path,
                item.originalname,
                *(str(params.get(k)) for k in ("backend", "differentiable", *marker.args)),
            )
            if case in seen:
                item.add_marker("slow")
            seen.add(case)
    yield
    # Two workers begin with a half each: one with the slow ones, which are then not what is left at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure no coverage (which costs a quarter of the time) while a slow test runs."""
    measuring = None
    if item.get_closest_marker("slow") is not None and "coverage" in sys.modules:
        measuring = sys.modules["coverage"].Coverage.current()
    if measuring is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


@pytest.fixture(params=list(ADAPTERS), scope="session")
def backend(request: pytest.FixtureRequest) -> Adapter:
    """Give each installed backend in turn."""
    return _installed(request.param)


@pytest.fixture(params=[name for name, adapter in ADAPTERS.items() if adapter.differentiable], scope="session")
def differentiable(request: pytest.FixtureRequest) -> Adapter:
    """Give each installed backend that has gradients in turn."""
    return _installed(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20231)
