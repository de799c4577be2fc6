"""The tables of `isoscore-star finetune` on a terminal of 80 columns: every number is there, and no line is longer."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from dataclasses import asdict

from isoscore_star.cli.finetune_tables import show_results
from isoscore_star.finetuning import Cell

LAYERS = 31


def run(cell: Cell, seed: int, number: int, **more: object) -> dict[str, Any]:
    """Give a run whose scores by layer are 0.100 + layer/1000 + number/10."""
    by_layer = [0.1 + layer / 1000 + number / 10 for layer in range(LAYERS)]
    return {
        **asdict(cell), "seed": seed, "metric": {"name": "accuracy", "value": 0.875}, "isoscore_star": 0.5,
        "isoscore_star_unbiased": None, "intrinsic_dimension": 12.5, "seconds_per_step": 0.125,
        "isoscore_star_by_layer": by_layer, "notes": [], **more,
    }  # fmt: skip


def shown(runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if it were a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    show_results(runs)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    end = next(index for index, line in enumerate(lines) if line.startswith("Held-out data."))
    assert max(map(len, lines[:end])) <= 80
    assert "…" not in "".join(lines)
    return lines


def test_layers_stand_in_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lams = (-1.0, 0.0, 1.0)
    lines = shown([run(Cell(lam=lam), 0, number) for number, lam in enumerate(lams)], monkeypatch, capsys)
    start = lines.index(next(line for line in lines if "by layer" in line))
    rows = [line.split() for line in lines[start:]]
    assert ["lam", "-1", "0", "1"] in rows
    for layer in range(LAYERS):
        assert [str(layer), *(f"{0.1 + layer / 1000 + number / 10:.3f}" for number in range(3))] in rows


def test_many_settings_make_several_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [Cell(lam=float(lam), zeta=zeta) for lam in range(4) for zeta in (0.2, 0.4)]
    runs = [run(cell, seed, number) for number, cell in enumerate(cells) for seed in (0, 1)]
    lines = shown(runs, monkeypatch, capsys)
    text = "\n".join(lines)
    assert text.count("IsoScore* by layer") > 1
    last = [line.split() for line in lines if line.split()[:1] == [str(LAYERS - 1)]]
    means = [value for row in last for value in row[1:] if value not in ("±", "0.000")]
    assert means == [f"{0.1 + 0.03 + number / 10:.3f}" for number in range(8)]


def test_all_settings_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    other = Cell(2.5, 0.4, "unbiased", 0.25, None, "linear", 100, 1.5, 128, 1.25e-5)
    lines = shown([run(cell, seed, 0) for cell in (Cell(), other) for seed in (0, 1)], monkeypatch, capsys)
    words = [line.split() for line in lines]
    for row in (
        ["estimator", "shrinkage", "unbiased"],
        ["lam", "schedule", "constant", "linear"],
        ["lr", "5e-05", "1.25e-05"],
        ["accuracy", "0.875", "±", "0.000", "0.875", "±", "0.000"],
        ["unbiased", "undefined", "undefined"],
        ["intrinsic", "dimension", "12.5", "±", "0.000", "12.5", "±", "0.000"],
    ):
        assert row in words


def test_what_comes_from_a_file_is_neither_obeyed_nor_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metric, note = {"name": "\x1b]0;t\x07[red]", "value": 1.0}, "\x1b[2Jgone [/]"
    show_results([run(Cell(), 0, 0, metric=metric, notes=[note])])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b]0;t\x07[red]" in out
    assert r"\x1b[2Jgone [/]" in out


def test_runs_with_unequal_numbers_of_layers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown([run(Cell(), 0, 0, isoscore_star_by_layer=[0.25]), run(Cell(), 1, 0)], monkeypatch, capsys)
    assert ["0", "0.175", "±", "0.106"] in [line.split() for line in lines]  # .15/√2 of .25 and .1
    assert ["30", "0.130"] in [line.split() for line in lines]
