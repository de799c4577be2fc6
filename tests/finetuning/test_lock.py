"""Two processes of `isoscore-star finetune` never write to one folder, and a killed one leaves it free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from adapters import ROOT
from tiny_finetuning import arguments, make_home

from isoscore_star import InvalidValueError
from isoscore_star.cli import main
from isoscore_star.finetuning import Results

pytest.importorskip("filelock")


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that is at work in a folder until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from isoscore_star.finetuning._lock import alone_in\n"
        "with alone_in(Path(sys.argv[1])):\n    print('here', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def test_a_second_process_is_told_and_a_killed_one_lets_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for needed in ("torch", "transformers", "typer", "rich", "accelerate", "sklearn"):
        pytest.importorskip(needed)
    home: SimpleNamespace = make_home(tmp_path)
    words = arguments(home, tmp_path / "out", lam=0, max_steps=1)
    first = hold(tmp_path / "out")
    try:
        capsys.readouterr()
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert (out, err) == (
            "",
            f"error: --output: another fine-tuning is at work in {tmp_path / 'out'}. "
            "Wait for its end, or choose another folder\n",
        )
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    finally:
        first.kill()
        first.communicate()
    assert main(words) == 0


def test_runs_that_another_process_added_meanwhile_are_kept(tmp_path: Path) -> None:
    run = {"name": "x", "seed": 0, "metric": {"name": "accuracy", "value": 1.0}, "notes": []}
    run |= {"lam": 1.0, "zeta": 0.2, "estimator": "shrinkage", "target": None, "floor": None, "lr": 5e-5}
    run |= {"lam_schedule": "constant", "warmup_steps": 0, "epochs": 1.0, "batch_size": 8}
    run |= {"isoscore_star": 0.5, "isoscore_star_unbiased": 0.5, "isoscore_star_by_layer": [], "seconds_per_step": 1.0}
    run |= {"intrinsic_dimension": None}
    first, second = Results(tmp_path, {}), Results(tmp_path, {})
    with first.alone():
        first.add(run)
    with second.alone():
        second.add(run | {"seed": 1})
    assert [found["seed"] for found in Results(tmp_path, {}).runs] == [0, 1]


def test_one_process_has_the_folder_once(tmp_path: Path) -> None:
    first = Results(tmp_path, {})
    with (
        first.alone(),
        pytest.raises(InvalidValueError, match="another fine-tuning is at work"),
        Results(tmp_path, {}).alone(),
    ):
        pass
    with Results(tmp_path, {}).alone():
        pass


def test_what_a_killed_process_left_over_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".results.json.123.partial").write_text("{", encoding="utf-8")
    with Results(tmp_path, {}).alone():
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "results.json", "steps.csv"}
