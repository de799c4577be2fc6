"""What a scan is used for: pages, tables, pictures and comparisons of real scans, from Python and from the shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("typer")
pytest.importorskip("vl_convert")
import tiny_scanned as tiny  # noqa: E402

from isoscore_star.cli import main  # noqa: E402

NAMES = ["embeddings", "layer 1", "layer 2", "union"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> tuple[iso.Scan, iso.Scan, Path]:
    """Scan two models of other weights over the same texts; their folders are ``a`` and ``b``."""
    folder, items = tmp_path_factory.mktemp("scans"), tiny.texts(160)
    a, b = (
        iso.scan(tiny.model(seed=seed), items, tokenizer=tiny.tokenizer(), output=folder / name)
        for seed, name in enumerate("ab")
    )
    return a, b, folder


def run(capsys: pytest.CaptureFixture[str], *command: Any) -> str:
    code = main([str(word) for word in command])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_page(scans: tuple[iso.Scan, iso.Scan, Path]) -> None:
    page = scans[0].to_html("own")
    assert "<title>Isotropy of own</title>" in page
    for layer in (scans[0].union, *scans[0].layers):
        assert f"{layer.measurement.unbiased_score:.3f}".lstrip("0") in page
    assert "data:" not in scans[0]._repr_html_()  # a notebook shows the tables


def test_frame(scans: tuple[iso.Scan, iso.Scan, Path]) -> None:
    pytest.importorskip("pandas")
    frame = scans[0].to_frame()
    assert list(frame["layer"]) == NAMES
    assert list(frame["unbiased_score"]) == [
        layer.measurement.unbiased_score for layer in (*scans[0].layers, scans[0].union)
    ]


def test_picture(scans: tuple[iso.Scan, iso.Scan, Path]) -> None:
    pytest.importorskip("matplotlib")
    axes = scans[0].plot()
    wanted = [layer.measurement.unbiased_score for layer in scans[0].layers]
    assert any(np.array_equal(line.get_ydata(), wanted) for line in axes.lines)


def test_comparison(scans: tuple[iso.Scan, iso.Scan, Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, folder = scans
    found = iso.compare(a, b)
    assert sorted(row.name for row in found.rows) == sorted(NAMES)
    for row in found.rows:
        before, after = (
            next(layer.measurement for layer in (scan.union, *scan.layers) if layer.name == row.name) for scan in (a, b)
        )
        assert row.paired
        assert row.difference == pytest.approx(after.unbiased_score - before.unbiased_score, abs=1e-12)
    shell = json.loads(run(capsys, "compare", folder / "a", folder / "b", "--json"))
    assert shell["rows"] == json.loads(json.dumps(found.to_dict()))["rows"]
    same = iso.compare(a, a)
    assert all((row.difference, row.differs) == (0.0, False) for row in same.rows)


def test_pages_from_the_shell(
    scans: tuple[iso.Scan, iso.Scan, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a, b, folder = scans
    run(capsys, "report", folder / "a", "-o", tmp_path / "one.html")
    assert (tmp_path / "one.html").read_text() == a.to_html()
    run(capsys, "report", folder / "a", "--against", folder / "b", "-o", tmp_path / "two.html")
    page = (tmp_path / "two.html").read_text()
    for row in iso.compare(a, b).rows:
        assert row.name in page
    tiny.save(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.texts(160)))
    capsys.readouterr()  # the bar of saving
    options = ("--text", tmp_path / "texts.txt", "-o", tmp_path / "scan.html")
    run(capsys, "scan", tmp_path / "model", *options)
    assert "layer 2" in (tmp_path / "scan.html").read_text()


def test_why(scans: tuple[iso.Scan, iso.Scan, Path]) -> None:
    for layer in scans[0].layers:
        shares = layer.explanation.to_dict()["directions"]
        assert shares
        assert layer.explanation.sentences
