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

from isoscore_star import available_backends, scan, validation
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


def test_merge(printed: Any) -> None:
    found = printed("measure", "x.npy", "--by-layer", "--checkpoint", "x.part")
    always, sometimes = documented("merge", "the whole")
    merged = printed("merge", "x.part")
    assert set(merged) == always | {"layers"}
    assert sometimes == {"layers"}
    assert set(merged["union"]) == set(found["union"]) == documented("measure", "`union`, each of `layers`")[0]


def test_scan(printed: Any) -> None:
    """Of a model's weights, whose rows have no tokens, and of a model of torch, which has them."""
    pytest.importorskip("safetensors")
    torch = pytest.importorskip("torch")
    from safetensors.numpy import save_file

    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    save_file({"embed_tokens.weight": rows}, "model.safetensors")
    found = printed("scan", str(Path.cwd()), "--weights")
    batches = torch.randint(0, 50, (12, 8, 10), generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Embedding(50, 16), torch.nn.Linear(16, 16))
    of_tokens = scan(model, batches=batches, layers=["0", "1"]).to_dict()
    assert (set(found), set()) == documented("scan", "the whole")
    assert set(of_tokens) == set(found)
    for layer in (found["layers"][0], of_tokens["layers"][1], of_tokens["union"]):
        assert set(layer) == documented("scan", "each of `layers`")[0]
        assert set(layer["explanation"]) == documented("explain", "the whole")[0] - {"files", "warnings"}
    layer = of_tokens["layers"][1]
    assert (set(layer["stability"][0]), set()) == documented("scan", "each of `stability`")
    assert (set(layer["longest_tokens"][0]), set()) == documented("scan", "each of `longest_tokens`")
    assert set(layer["without"]["first tokens"]) == documented("measure", "`union`, each of `layers`")[0]


def test_transform(printed: Any) -> None:
    pytest.importorskip("sklearn")
    always, sometimes = documented("transform", "the whole")
    plain = printed("transform", "x.csv", "--output", "new.npy")
    fitted = printed("transform", "x.csv", "--fit", "x.csv", "--output", "new.npy")
    assert set(plain) == always | sometimes == always | {"score_before", "score_after"}
    assert set(fitted) == always | {"score_after"}


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
