"""The contracts of pyproject.toml have a layer for every module and notice an import that runs back up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adapters import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")

# Packages whose __init__ gathers names for users, the root above all.
GATHERED = {"", "backends", "backends.keras", "backends.tensorflow", "backends.torch", "core"}


def test_every_module_has_a_layer() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = {name.strip(" ()") for line in options["layers"] for name in line.replace("|", ":").split(":")}
    files = [path.relative_to(ROOT / "isoscore_star") for path in (ROOT / "isoscore_star").rglob("*.py")]
    files += [path.relative_to(ROOT) for path in (ROOT / "backends").rglob("*.py")]
    modules = {".".join(file.with_suffix("").parts).removesuffix("__init__").rstrip(".") for file in files}
    inside = {module for module in modules if any(f"{module}.".startswith(f"{layer}.") for layer in layers)}
    assert modules - inside == GATHERED


def test_an_import_that_runs_back_is_noticed(tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="comes with the extra dev")
    shutil.copytree(ROOT / "isoscore_star", tmp_path / "isoscore_star", ignore=shutil.ignore_patterns("backends"))
    shutil.copytree(ROOT / "backends", tmp_path / "isoscore_star" / "backends")
    with (tmp_path / "isoscore_star" / "core" / "formulas.py").open("a") as file:
        file.write("\n\ndef lazy():\n    from isoscore_star import functions\n    return functions\n")
    linter = [Path(sys.executable).with_name("lint-imports"), "--no-cache", ROOT / "pyproject.toml"]
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(linter, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "isoscore_star.core.formulas -> isoscore_star.functions" in done.stdout
