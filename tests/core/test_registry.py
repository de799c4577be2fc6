"""Backends are found by the type of an array, and nothing is imported that nobody asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from adapters import ADAPTERS, Adapter

import isoscore_star as iso
from isoscore_star.core import registry

FRAMEWORKS = (
    "torch",
    "autograd",
    "tensorflow",
    "keras",
    "jax",
    "typer",
    "rich",
    "pyarrow",
    "safetensors",
    "matplotlib",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_imports_no_framework() -> None:
    loaded = f"import sys, {{}}; print([m for m in {FRAMEWORKS!r} if m in sys.modules])"
    assert run(loaded.format("isoscore_star")) == "[]"
    assert run(loaded.format("autograd")) == "['autograd']"  # the check itself can fail


def test_measuring_numpy_imports_no_framework() -> None:
    code = (
        "import sys, numpy as np, isoscore_star as iso; iso.measure(np.random.rand(9, 3)); iso.available_backends();"
        f"print([m for m in {FRAMEWORKS!r} if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_a_missing_framework_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import isoscore_star as iso\n"
        "try: iso.get_backend('torch')\n"
        "except iso.MissingDependencyError as error: print(isinstance(error, ImportError), error)"
    )
    message = run(code)
    assert message.startswith("True")
    assert 'pip install "isoscore-star[torch]"' in message


def test_a_folder_of_that_name_is_no_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_framework").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = registry._BUILT_IN["numpy"]._replace(framework="a_framework")
    monkeypatch.setitem(registry._BUILT_IN, "a_framework", entry)
    assert "a_framework" not in iso.available_backends()
    (tmp_path / "a_framework" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert "a_framework" in iso.available_backends()


def test_backend_of_an_array(backend: Adapter) -> None:
    X = backend.native(np.eye(3))
    assert iso.get_backend(backend.name).name == backend.name
    assert isinstance(iso.get_backend(backend.name), iso.Backend)
    if backend.name != "autograd":  # whose arrays are boxes only inside its own functions
        assert iso.backend_of(X).name == backend.name
        assert iso.backend_of([X, X]).name == backend.name


def test_every_backend_of_this_package_is_tested() -> None:
    assert set(ADAPTERS) == set(registry._BUILT_IN)


def test_unknown_names() -> None:
    with pytest.raises(iso.InvalidValueError, match=r"no backend 'pytorch'.*torch, tensorflow, jax"):
        iso.get_backend("pytorch")


class Decimals:
    """A third party's array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape


class DecimalsBackend(type(iso.get_backend("numpy"))):
    name = "decimals"

    def owns(self, array: object) -> bool:
        return isinstance(array, Decimals)

    def dtype_name(self, array: Decimals) -> str:
        return str(array.values.dtype)

    def points(self, array: Decimals) -> np.ndarray:
        return array.values


BACKEND = DecimalsBackend()


def test_a_third_party_backend_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules["a_third_party"] = sys.modules[__name__]
    point = EntryPoint("decimals", "a_third_party:BACKEND", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    points = np.random.default_rng(0).normal(size=(20, 3))
    assert "decimals" in iso.available_backends()
    assert iso.isoscore(Decimals(points)) == iso.isoscore(points)
    wrong = EntryPoint("wrong", "a_third_party:FRAMEWORKS", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [wrong])
    with pytest.raises(iso.InvalidTypeError, match="lacks members"):
        iso.get_backend("wrong")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("not_there:BACKEND", "cannot be loaded: ModuleNotFoundError"),
        ("a_third_party:DecimalsBackend", r"gives DecimalsBackend, .*\(it is a class\)"),
        ("a_third_party:BACKEND", "gives a backend of another name, 'decimals'"),
    ],
)
def test_plug_ins_that_are_wrong(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_third_party", sys.modules[__name__])
    point = EntryPoint("broken", value, registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(iso.IsoScoreError, match=message):
        iso.get_backend("broken")


def test_a_plug_in_that_cannot_be_loaded_is_told_and_harms_no_other_array(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    point = EntryPoint("broken", "not_there:BACKEND", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(registry, "_name_of_type", {})

    class ArrayLike:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.diag([1.0, 2.0, 4.0])

    assert iso.isoscore(ArrayLike()) == iso.isoscore(np.diag([1.0, 2.0, 4.0]))
    assert "'broken'" in caplog.text
    assert "not_there" in caplog.text
