"""The recipes of docs/clusters.md, run as they stand there, with the real engines."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

import isoscore_star as iso

pytestmark = pytest.mark.slow


def token_states() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(rng.normal(size=(200, 1, 6)) + rng.normal(size=(200, 5, 6)))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write four files of documents, of which one begins in the first file and ends in the second."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(dict.fromkeys([*iso.__path__[0].rsplit("/", 1)[:1], *sys.path])))
    (tmp_path / "states").mkdir()
    points, documents = token_states().reshape(-1, 6), np.repeat(np.arange(200), 5)
    for number, rows in enumerate(np.split(np.arange(1000), [252, 500, 750])):
        table = pd.DataFrame({"document": documents[rows], "embedding": list(points[rows])})
        table.to_parquet(tmp_path / "states" / f"{number}.parquet")
    return tmp_path


def recipe(name: str) -> dict[str, Any]:
    """Run the code under a heading of the page, and return its names."""
    text = (ROOT / "docs" / "clusters.md").read_text()
    section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(code, names)
    return names


def require_the_score(names: dict[str, Any]) -> None:
    """Compare with the score of the array in memory, exactly, and the error with that of leaving out each document."""
    measured, expected = names["measured"], iso.measure(token_states())
    assert measured.unbiased_score == pytest.approx(expected.unbiased_score, rel=1e-12)
    assert (measured.count, measured.group_count) == (1000, 200)
    # Of twenty blocks an error is known to 1/√(2·19) = 16 %: three of these.
    assert measured.standard_error == pytest.approx(expected.standard_error, rel=0.5)


@pytest.mark.filterwarnings("ignore")  # of the engine
def test_ray(files: Path) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        require_the_score(recipe("Ray"))
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # of the engine
def test_spark(files: Path) -> None:
    pytest.importorskip("pyspark")
    names = recipe("Spark")
    try:
        require_the_score(names)
    finally:
        names["spark"].stop()
