"""`isoscore-star watch` as its user sees it: once, as JSON, in a pipe, on a terminal, and while a run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoscore_star.cli import main
from isoscore_star.watching import RunLog

HOSTILE = "[bold]x[/bold][link=file:///etc]\x1b[31m\u202e"


def write_run(folder: Path, name: str = "lam=1_seed=0", steps: int = 5, layers: int = 2) -> RunLog:
    log = RunLog(folder)
    log.write("begin", run=name, steps=10)
    for step in range(1, steps + 1):
        scores = {f"isoscore_star/layer_{index:02d}": 0.5 / step ** (3 * index - 1) for index in range(1, layers + 1)}
        log.write("log", run=name, step=step, loss=1 / step, isoscore_star=0.5, **scores)
    return log


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["watch", str(folder), *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path).write("log", run="lam=1_seed=0", step=5, eval_accuracy=0.75, eval_runtime=3.0)
    out = shown(tmp_path, capsys, "--once")
    assert f"{tmp_path}: lam=1_seed=0, step 5 of 10 (50%)" in out
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines()}
    assert rows["loss"][1:3] == ["1.000", "0.200"]
    assert rows["loss"][3][0] + rows["loss"][3][-1] == "█▁"
    assert rows["evaluation: accuracy"][2:4] == ["0.750", "0.750"]
    assert rows["1"][1:3] == ["0.500", "0.020"]
    assert "collapsed" in rows["1"]  # 0.02 is below a tenth of 0.5
    assert "runtime" not in out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path).write("log", run="lam=1_seed=0", step=6, loss=float("inf"))
    content = json.loads(shown(tmp_path, capsys, "--json"))
    assert set(content) == {"folder", "kind", "state", "planned", "runs", "results", "notes"}
    (run,) = content["runs"]
    assert set(run) == {"name", "step", "steps", "state", "series"}
    assert run["series"]["train/loss"] == {"steps": [1, 2, 3, 4, 5, 6], "values": [1, 0.5, 1 / 3, 0.25, 0.2, None]}


def test_hostile_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[red]x[bold]"
    folder.mkdir()
    log = write_run(folder, HOSTILE)
    log.write("log", run=HOSTILE, step=6, **{HOSTILE: 1.0, "eval_[/]": 2.0})
    log.write("stopped", reason=HOSTILE)
    (folder / "results.json").write_text(
        json.dumps({"runs": [{"name": HOSTILE, "metric": {"name": HOSTILE, "value": 1}, "isoscore_star": 1,
                              "isoscore_star_unbiased": None}] * 2})
    )  # fmt: skip
    for options in (["--once"], []):
        out = shown(folder, capsys, *options)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "[bold]x[/bold][link=file:///etc]\\x1b[31m\\u202e" in out.replace("\n", "")
        assert "[red]x[bold]" in out.replace("\n", "")


@pytest.mark.parametrize("options", [["--once"], ["--json"]])
def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    assert main(["watch", str(tmp_path / "missing"), *options]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "something.txt").write_text("x")
    assert main(["watch", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    for word in ("log.jsonl", "trainer_state.json", "metrics.csv", "TensorBoard"):
        assert word in err


def test_pipe_has_a_line_for_each_step_and_ends_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_run(tmp_path, steps=1)
    log.write("sweep", runs=["lam=1_seed=0"], pid=os.getpid(), host="elsewhere")
    left = iter([lambda: log.write("log", run="lam=1_seed=0", step=2, loss=0.5), lambda: log.write("done")])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(left)())
    lines = shown(tmp_path, capsys).splitlines()
    assert [line.split(",")[1].strip() for line in lines[:2]] == ["step 1/10", "step 2/10"]
    assert lines[-1].endswith("finished")
    assert len(lines) == 3


def test_pipe_has_a_line_for_each_step_between_two_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_run(tmp_path, "a", steps=2)

    def more() -> None:
        for step in (3, 4, 5):
            log.write("log", run="a", step=step, loss=10.0 * step)
        log.write("log", run="a", step=4, eval_accuracy=0.25)
        log.write("end", run="a")
        log.write("begin", run="b", steps=10)
        for step in (1, 2):
            log.write("log", run="b", step=step, loss=10.0 * step)

    def anew() -> None:
        log.write("begin", run="b", steps=10)
        log.write("log", run="b", step=1, loss=5.0)
        log.write("done")

    left = iter([more, lambda: None, anew])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(left)())
    lines = [line.split(", ") for line in shown(tmp_path, capsys).splitlines()[:-1]]
    assert [(line[0], line[1], line[2]) for line in lines] == [
        ("a", "step 1/10", "loss 1.000"), ("a", "step 2/10", "loss 0.500"), ("a", "step 3/10", "loss 30.000"),
        ("a", "step 4/10", "loss 40.000"), ("a", "step 5/10", "loss 50.000"), ("b", "step 1/10", "loss 10.000"),
        ("b", "step 2/10", "loss 20.000"), ("b", "step 1/10", "loss 5.000")]  # fmt: skip
    said = ["evaluation: accuracy 0.250" in line for line in lines]
    assert said == [False, False, False, True, True, False, False, False]


def test_finished_runs_are_shown_while_the_next_one_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path)
    log.write("sweep", runs=["first", "second"])
    run = {"name": "first", "metric": {"name": "f1", "value": 0.625}, "isoscore_star": 0.125,
           "isoscore_star_unbiased": 0.375}  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps({"runs": [run]}))
    log.write("begin", run="second", steps=10)
    out = shown(tmp_path, capsys, "--once")
    assert "second" in out.splitlines()[0]
    (row,) = [line.split() for line in out.splitlines() if line.split()[:1] == ["first"]]
    assert row == ["first", "0.625", "0.125", "0.375"]


def test_idle(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    shown(tmp_path, capsys, "--idle", "10", "--interval", "4")
    assert clock[0] == 12.0  # the first look after ten seconds without anything new


def test_waits_for_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "later"

    def made() -> None:
        write_run(folder).write("done")

    left = iter([lambda: None, folder.mkdir, made])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(left)())
    assert main(["watch", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == f"note: waiting for {folder}; Ctrl-C ends\n"
    assert "step 5/10" in out


def test_live_ends_with_the_run_and_shows_the_lowest_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    log = write_run(tmp_path, layers=40)
    log.write("sweep", runs=["lam=1_seed=0"])
    left = iter([lambda: log.write("log", run="lam=1_seed=0", step=7, loss=0.125), lambda: log.write("done")])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(left)())
    out = shown(tmp_path, capsys)
    assert "step 7 of 10" in out
    assert "the lowest" in out
    assert "of 40" in out
    assert "finished" in out


def terminal(folder: Path, *options: str) -> Any:
    pty = pytest.importorskip("pty")
    main_end, its_end = pty.openpty()
    # A job in the background is started with Ctrl-C ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heed + "import sys; from isoscore_star.cli import main; sys.exit(main())"
    environment = os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
    words = [sys.executable, "-c", code, "watch", str(folder), *options]
    process = subprocess.Popen(words, stdin=its_end, stdout=its_end, stderr=its_end, env=environment)
    os.close(its_end)
    return process, main_end


def read_until(end: int, found: Callable[[str], bool], seconds: float = 60) -> str:
    import select

    text, limit = "", time.monotonic() + seconds
    while not found(text) and time.monotonic() < limit:
        if select.select([end], [], [], 0.1)[0]:
            try:
                text += os.read(end, 65536).decode(errors="replace")
            except OSError:  # closed
                break
    return text


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_leaves_it_as_it_was(tmp_path: Path) -> None:
    log = write_run(tmp_path)
    process, end = terminal(tmp_path, "--interval", "0.1")
    text = read_until(end, lambda seen: "step 5 of 10" in seen)
    assert "\x1b[?25l" in text  # the cursor is hidden
    log.write("log", run="lam=1_seed=0", step=6, loss=0.1)
    text += read_until(end, lambda seen: "step 6 of 10" in seen)
    process.send_signal(signal.SIGINT)
    text += read_until(end, lambda seen: False, 10)
    assert process.wait(30) == 0
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "Traceback" not in text
    assert "error" not in text
    os.close(end)


def test_interval_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path), "--interval", "0"]) == 2
    assert "--interval" in capsys.readouterr().err
