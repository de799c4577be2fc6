"""The types that a user's type checker is shown are those of the values; `make lint` runs mypy and pyright."""

from __future__ import annotations

import runpy

import pytest
from adapters import ROOT


def test_the_typed_script_gets_what_it_declares() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    found = runpy.run_path(str(ROOT / "tests/packaging/typed_user.py"))
    assert {type(value) for value in found["floats"]} == {float}
    assert {type(value) for value in found["tensors"]} == {torch.Tensor}
    assert all(isinstance(value, jax.Array) for value in found["arrays"])
