"""The frame of the paper checks: verdicts, files, exit codes; and that a fast claim runs as it does in CI."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from adapters import ROOT

pytest.importorskip("rich")
figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture
def checks() -> Iterator[SimpleNamespace]:
    """Import the package, which is no part of what is installed, from the repository."""
    sys.path.insert(0, str(ROOT))
    try:
        main = importlib.import_module("paper_checks.__main__").main
        parts = importlib.import_module("paper_checks._claim")
        names = ("Cache", "Claim", "Findings", "NoDataError", "Run", "Table")
        yield SimpleNamespace(main=main, **{name: getattr(parts, name) for name in names})
    finally:
        sys.path.remove(str(ROOT))


def claim(checks: SimpleNamespace, name: str, check: Callable[[Any], Any], number: int = 1) -> Any:
    return checks.Claim(number, name, f"the {name} claim", "figure 1", check)


def outcome(checks: SimpleNamespace, *, holds: bool, required: bool = True) -> Callable[[Any], Any]:
    def check(run: Any) -> Any:
        found = checks.Findings()
        found.expect("a | b", expected="1", obtained="2", tolerance="0, why", holds=holds, required=required)
        found.tables.append(checks.Table("Evidence", ["x"], [["7"]]))
        found.data["values"] = np.array([1.0, np.inf])
        found.data["quick"] = run.quick
        picture = figure.Figure()
        picture.subplots().plot([1, 2])
        found.figures[""] = picture
        return found

    return check


@pytest.mark.parametrize(
    ("holds", "required", "code", "verdict"),
    [
        (True, True, 0, "holds"),
        (False, True, 1, "does not hold"),
        (False, False, 0, "holds in part"),
    ],
)
def test_verdict_and_exit_code(
    checks: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    holds: bool,
    required: bool,
    code: int,
    verdict: str,
) -> None:
    known = [claim(checks, "some", outcome(checks, holds=holds, required=required))]
    assert checks.main(["--output", str(tmp_path)], known) == code
    assert verdict in capsys.readouterr().out
    record = json.loads((tmp_path / "results" / "some.json").read_text())
    assert record["verdict"] == verdict
    assert record["data"] == {"values": [1.0, "inf"], "quick": False}
    assert record["environment"]["versions"]["numpy"] == np.__version__
    report = (tmp_path / "RESULTS.md").read_text()
    assert f"**{verdict}**" in report
    assert "a \\| b" in report
    assert "| 7 |" in report
    assert "results/some.svg" in report
    assert {file.suffix for file in (tmp_path / "results").glob("some.*")} == {".json", ".svg", ".png"}


def test_a_broken_check_is_reported_and_the_others_still_run(
    checks: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: Any) -> Any:
        raise ZeroDivisionError("by zero")

    known = [claim(checks, "broken", broken, 1), claim(checks, "good", outcome(checks, holds=True), 2)]
    assert checks.main(["--output", str(tmp_path)], known) == 1
    out = capsys.readouterr().out
    assert "error" in out
    assert json.loads((tmp_path / "results" / "good.json").read_text())["verdict"] == "holds"
    report = (tmp_path / "RESULTS.md").read_text()
    assert "ZeroDivisionError: by zero" in report
    assert "Traceback" in report


def test_a_claim_without_data_says_how_to_get_it(
    checks: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def empty(run: Any) -> Any:
        raise checks.NoDataError("put the texts into ../shared/data")

    assert checks.main(["--output", str(tmp_path)], [claim(checks, "empty", empty)]) == 0
    assert "no data" in capsys.readouterr().out
    assert "put the texts into ../shared/data" in (tmp_path / "RESULTS.md").read_text()


def test_only_and_list(checks: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = [claim(checks, name, outcome(checks, holds=True), i) for i, name in enumerate(("one", "two", "three"))]
    assert checks.main(["--output", str(tmp_path), "--only", "two", "--only", "0", "--quick"], known) == 0
    assert {file.stem for file in (tmp_path / "results").glob("*.json")} == {"one", "two"}
    # The report is of all that was ever checked into the folder.
    assert checks.main(["--output", str(tmp_path), "--only", "three"], known) == 0
    report = (tmp_path / "RESULTS.md").read_text()
    assert all(f"the {name} claim" in report for name in ("one", "two", "three"))
    assert "(quick)" in report
    assert "(full)" in report
    capsys.readouterr()
    assert checks.main(["--output", str(tmp_path), "--only", "four"], known) == 2
    assert "there is no claim 'four'; there are one, two, three" in capsys.readouterr().err
    assert checks.main(["--list"], known) == 0
    assert "the two claim" in capsys.readouterr().out


def test_every_script_is_found_once(checks: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    scripts = sorted((ROOT / "paper_checks" / "claims").glob("claim_*.py"))
    assert [int(line.split()[0]) for line in lines] == [int(script.stem.split("_")[1]) for script in scripts]


def test_generators_hang_on_the_key_alone(checks: SimpleNamespace, tmp_path: Path) -> None:
    quick, full = (checks.Run(quick, tmp_path, checks.Cache(tmp_path)) for quick in (True, False))
    assert quick.rng(3, 1).random() == full.rng(3, 1).random()
    assert quick.rng(3, 1).random() != quick.rng(3, 2).random()
    assert (quick.pick(1, 2), full.pick(1, 2)) == (1, 2)


def test_the_cache_makes_a_result_once(checks: SimpleNamespace, tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"score": 0.5, "layers": (1, 2)}

    for _ in range(2):  # a second process would see the files alone
        cache = checks.Cache(tmp_path / "cache")
        assert cache.get("run", {"lam": 1.0, "seed": 0}, make) == {"score": 0.5, "layers": [1, 2]}
    assert len(made) == 1
    checks.Cache(tmp_path / "cache").get("run", {"lam": 1.0, "seed": 1}, make)
    assert len(made) == 2

    def killed() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("run", {"lam": -1.0, "seed": 0}, killed)
    assert cache.get("run", {"lam": -1.0, "seed": 0}, make)["score"] == 0.5


@pytest.mark.slow
def test_the_bias_claim_holds_in_its_quick_form(
    checks: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checks.main(["--quick", "--only", "bias", "--output", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "results" / "bias.json").read_text())
    assert all(check["holds"] for check in record["checks"] if check["required"])
    assert checks.main(["--quick", "--only", "4", "--output", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "results" / "bias.json").read_text())
    assert again["data"] == record["data"]
    first, second = (folder / "results" / "bias.svg" for folder in (tmp_path, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()
