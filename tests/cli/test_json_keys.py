"""The keys that docs/tables.md lists are exactly those that ``--json`` prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

pytest.importorskip("typer")
pytest.importorskip("rich")

from isoscore_star import available_backends, validation
from isoscore_star.cli import main


def documented(command: str, described: str) -> tuple[set[str], set[str]]:
    """Return the keys of an object, and those that it only has sometimes."""
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    ((keys, more),) = [row[2:] for row in rows if row[:2] == [f"`{command}`", described]]
    always, sometimes = (set(re.findall(r"`([a-z_]+)`", cell)) for cell in (keys, more))
    return always, sometimes


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in a folder with an array and a table, both with a dimension that is an outlier."""
    monkeypatch.chdir(tmp_path)
    points = np.random.default_rng(0).normal(size=(2, 30, 8)) * [100, 1, 1, 1, 1, 1, 1, 1]
    np.save("x.npy", points)
    np.savetxt("x.csv", points[0], delimiter=",", header=",".join("abcdefgh"), comments="")

    def run(*words: str) -> dict[str, Any]:
        assert main([*words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def test_measure(printed: Any) -> None:
    always, sometimes = documented("measure", "the whole")
    array, table = printed("measure", "x.npy", "--by-layer"), printed("measure", "x.csv")
    assert (set(array), set(table)) == (always | {"layers"}, always | {"columns"})
    assert sometimes == {"layers", "columns"}
    always, sometimes = documented("measure", "`union`, each of `layers`")
    assert set(array["union"]) == set(table["union"]) == always
    assert set(array["layers"][0]) == always | sometimes
    always, sometimes = documented("measure", "each of `outlier_dimensions`")
    assert set(array["union"]["outlier_dimensions"][0]) == always
    assert set(table["union"]["outlier_dimensions"][0]) == always | sometimes


def test_measure_by(printed: Any) -> None:
    always, sometimes = documented("measure --by", "the whole")
    found = printed("measure", "x.npy", "--by", "auto")
    # The cell also names the page and the object that `whole` is like.
    assert set(found) == always - {"union", "measure"}
    assert sometimes == set()
    assert set(found["classes"][0]) == documented("measure --by", "each of `classes`")[0]
    assert set(found["between"]) == documented("measure --by", "`between`")[0]
    assert set(found["whole"]) == documented("measure", "`union`, each of `layers`")[0]


def test_compare(printed: Any) -> None:
    found = printed("compare", "x.npy", "x.npy")
    assert (set(found), set()) == documented("compare", "the whole")
    assert (set(found["rows"][0]), set()) == documented("compare", "each of `rows`")
    assert set(found["rows"][0]["a"]) == documented("measure", "`union`, each of `layers`")[0]


def test_explain(printed: Any) -> None:
    found = printed("explain", "x.npy")
    assert set(found) == documented("explain", "the whole")[0]
    for part in ("directions", "coordinates", "parts", "between", "what_ifs", "measures"):
        assert all(set(one) == documented("explain", f"each of `{part}`")[0] for one in found[part])


def test_validate(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "numpy" in available_backends()
    monkeypatch.setattr(validation, "available_backends", lambda: ("numpy",))
    found = printed("validate")
    assert set(found) == documented("validate", "the whole")[0]
    assert set(found["checks"][0]) == documented("validate", "each of `checks`")[0]
    assert set(found["checks"][0]["tolerance"]) == documented("validate", "`tolerance`")[0]


def test_demo(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star import demonstration

    monkeypatch.setattr(demonstration, "available_backends", lambda: ("numpy",))  # no training, which takes seconds
    assert set(printed("demo")) == documented("demo", "the whole")[0]
