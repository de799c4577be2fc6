"""``isoscore-star scan``: its table, its JSON, its mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("typer")
import tiny_scanned as tiny  # noqa: E402

from isoscore_star.cli import main  # noqa: E402


def _run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main(["scan", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "texts.txt").write_text("\n".join(tiny.texts(45)))
    return tiny.save(tmp_path / "model"), tmp_path / "texts.txt"


def test_table(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = _run(capsys, files[0], "--text", files[1])
    assert (code, err) == (0, "")
    for words in ("layer 2", "union", "dims", "largest", " ± "):
        assert words in out
    heads = [line.split() for line in out.splitlines()]
    assert ["no", "no"] in heads  # above "first" and "spec."
    assert ["layer", "score", "first", "spec.", "dims", "largest", "mean"] in heads
    assert "the least isotropic" in out


def test_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = [files[0], "--text", files[1], "--layers", "0,-1", "--output", tmp_path / "kept", "--json"]
    code, out, err = _run(capsys, *command)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [layer["name"] for layer in found["layers"]] == ["embeddings", "layer 2"]
    assert found == json.loads((tmp_path / "kept" / "scan.json").read_text())
    assert found["provenance"]["sequences"] == 45
    assert found["layers"][1]["explanation"]["sentences"]
    code, again, err = _run(capsys, *command)
    assert (code, again) == (0, out)
    assert "kept holds this scan: nothing was read again" in " ".join(err.split())


def test_hostile_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "[bold]mo\x1bdel"
    tiny.save(folder)
    (tmp_path / "texts.txt").write_text("\n".join(tiny.texts(24)))
    code, out, _ = _run(capsys, folder, "--text", tmp_path / "texts.txt")
    assert code == 0
    assert "\x1b" not in out
    assert "[bold]mo\\x1bdel:24sequences" in "".join(out.split())  # wherever the line is broken


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--layers", "0,,1"], 2, "--layers: expected places or names between commas"),
        (["--layers", "9"], 1, "--layers: there is no layer 9"),
        (["--batch-size", "0"], 1, "--batch-size: expected an integer from 1"),
        (["--memory", "lots"], 1, "--memory: expected a number of bytes"),
        (["--weights"], 2, "--weights: reads no texts"),
        (["--text-column", "a"], 2, "has no columns"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    found, out, err = _run(capsys, files[0], "--text", files[1], *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
