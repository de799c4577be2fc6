"""The wheel, used from another folder: the package map of setup.cfg must bring the backends along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from adapters import ROOT

USE = """
import pathlib, numpy as np, isoscore_star as iso
from isoscore_star.sample import load_sample
print(pathlib.Path(iso.__file__).parent.parent)
for name in iso.available_backends():
    print(name, iso.get_backend(name).name)
print(iso.isoscore(np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])), len(load_sample().labels) > 0)
"""


@pytest.mark.slow
def test_the_wheel_carries_everything(tmp_path: Path) -> None:
    pytest.importorskip("build")
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "demo_*"))
    build = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(tree)]  # the wheel by way of the sdist
    subprocess.run(build, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    modules = {f"isoscore_star/backends/{path.name}" for path in (ROOT / "backends").glob("*.py")}
    modules |= {str(path.relative_to(ROOT)) for path in (ROOT / "isoscore_star").rglob("*.py")}
    data = {
        "isoscore_star/py.typed",
        "isoscore_star/reporting/page.css",
        "isoscore_star/reporting/page.js",
        "isoscore_star/sample/minilm_hidden_states.npz",
        "isoscore_star/sample/sentences.txt",
    }
    assert modules | data | {"isoscore_star_shell.py"} <= names
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    where, *backends, last = done.stdout.splitlines()
    assert where == str(tmp_path / "site")
    assert {line.split()[0] for line in backends} >= {"numpy"}
    assert all(len(set(line.split())) == 1 for line in backends)
    assert last == "1.0 True"
