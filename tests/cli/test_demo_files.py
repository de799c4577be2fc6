"""The demonstration's files are there whole or not at all, and in the folder that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from full_disk import no_file_above

import isoscore_star as iso
from isoscore_star import InvalidValueError
from isoscore_star.demonstration import Demonstration, write_files


@pytest.fixture(scope="module")
def found() -> Demonstration:
    points = np.random.default_rng(0).normal(size=(3, 50, 4))
    layers = tuple(iso.measure(layer) for layer in points)
    return Demonstration(1, 50, layers, iso.measure(list(points[1:])), None, ())


def old(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# JSON has 2,000 bytes here and CSV 400; the pictures, where matplotlib draws them, tens of thousands.
@pytest.mark.parametrize("size", [0, 300, 1000])
def test_a_full_disk_leaves_what_was_there(found: Demonstration, tmp_path: Path, size: int) -> None:
    for name in ("results.json", "layers.csv"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    before = old(tmp_path)
    with no_file_above(size), pytest.raises(InvalidValueError, match=r"cannot write to .* Make room there"):
        write_files(found, tmp_path)
    assert old(tmp_path) == before


def test_a_picture_that_finds_no_room_leaves_no_file(found: Demonstration, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with no_file_above(10_000), pytest.raises(InvalidValueError, match="cannot write to"):
        write_files(found, tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_file_that_is_named_is_there(found: Demonstration, tmp_path: Path) -> None:
    files = write_files(found, tmp_path / "new")
    assert set(files) == set((tmp_path / "new").iterdir())
    assert all(file.stat().st_size > 100 for file in files)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--output", ""], "--output"), (["--output", " "], "--output"), (["--seed", str(10**11)], "--seed")],
)
def test_wrong_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    pytest.importorskip("typer")
    pytest.importorskip("rich")
    from isoscore_star.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["demo", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()), message in err) == ("", 1, True), err
    assert not list(tmp_path.iterdir())
