"""What the shell shows and survives: escapes in names, closed streams, a reader that leaves, Ctrl-C while it loads."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from adapters import ROOT

pytest.importorskip("typer")
pytest.importorskip("rich")

from isoscore_star.cli import main
from isoscore_star.cli.printable import printable

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other shells, devices and signals")

RED = "\x1b[31mred\x1b[0m"
SHOWN = r"\x1b[31mred\x1b[0m"
HOSTILE = ["\x1b]0;title\x07", "\r", "\x9b2J", "\u202e", "\u2066", "\u2028", "\udc9b"]
RUN = "import sys; from isoscore_star.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Work in an empty folder but for x.npy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    points = np.random.default_rng(0).normal(size=(50, 4))
    np.save("x.npy", points)
    return points


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    return code, out, err


@pytest.mark.parametrize("sign", HOSTILE)
def test_no_hostile_sign_is_printed_as_it_is(sign: str) -> None:
    shown = printable(f"a{sign}b")
    assert shown.isprintable()
    assert shown == f"a{sign.encode('unicode_escape').decode()}b"


def test_other_writing_stays_as_it_is() -> None:
    assert printable("größe 数 ± é [red]") == "größe 数 ± é [red]"


def test_keys_are_shown_escaped(points: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", **{RED: points, "b": points})
    code, _, err = run(capsys, "measure", "x.npz")
    assert (code, f"choose one by its key: {SHOWN} (50, 4), b (50, 4)" in err) == (2, True)
    code, _, err = run(capsys, "measure", "x.npz", "--key", "\x1b[2J")
    assert (code, r"no array '\x1b[2J'" in err) == (2, True)
    code, out, _ = run(capsys, "measure", "x.npz", "--key", RED, "--key", "b", "--by-layer")
    assert (code, f"│ {SHOWN} │" in out) == (0, True)


@posix
def test_file_names_are_shown_escaped(points: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in ((f"{RED}.npy", b"junk"), (os.fsdecode(b"\x9b2J.npy"), b"junk")):
        Path(name).write_bytes(content)
        for command in ("measure", "explain"):
            code, _, err = run(capsys, command, name)
            assert (code, err.startswith(f"error: {printable(name)}: cannot be read")) == (1, True)
    code, _, err = run(capsys, "measure", f"{RED}.xyz")
    assert (code, SHOWN in err) == (2, True)


def test_notes_are_shown_escaped(points: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    torch.save({f"{RED}{i}": torch.tensor(x) for i, x in enumerate(points)}, "x.pt")
    torch.save({RED: {str(i): torch.tensor(x) for i, x in enumerate(points)}, "b": torch.zeros(3)}, "y.pt")
    assert run(capsys, "measure", "x.pt")[2].startswith("note: x.pt: stacked 50 vectors")
    assert run(capsys, "measure", "y.pt", "--key", RED)[2].startswith(f"note: y.pt:{SHOWN}: stacked 50 vectors")


def test_wrong_use_is_shown_escaped(points: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["measure", "x.npy", f"--{RED}"], [RED], ["measure", "x.npy", "--mask", RED]):
        code, _, err = run(capsys, *arguments)
        assert (code, SHOWN in err) == (2, True)


def test_json_is_escaped(points: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", **{RED: points, "b": points})
    _, out, _ = run(capsys, "measure", "x.npz", "--key", RED, "--key", "b", "--by-layer", "--json")
    assert json.loads(out)["layers"][0]["layer"] == RED


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which $RUN is the command."""
    environment = {**os.environ, "RUN": RUN, "PYTHON": sys.executable, **environment}
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.sampled
@posix
@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
def test_what_is_not_closed_is_written(points: np.ndarray, closed: str) -> None:
    done = shell(f'"$PYTHON" -c "$RUN" measure x.npy --json {closed}')
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["union"]["count"] == 50


@pytest.mark.sampled
@posix
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_no_failure(points: np.ndarray, closed: str) -> None:
    done = shell(f'"$PYTHON" -c "$RUN" measure x.npy {closed}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@posix
def test_an_error_is_not_written_to_the_output_where_stderr_is_closed(points: np.ndarray) -> None:
    done = shell('"$PYTHON" -c "$RUN" measure x.npy --key a --json 2>&-')
    assert (done.returncode, done.stdout) == (2, "")


@posix
def test_a_reader_that_leaves_gets_no_complaint(points: np.ndarray) -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    command = [sys.executable, "-c", RUN, "measure", "x.npy", "--json"]
    done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(ours)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_device_is_one_line(points: np.ndarray) -> None:
    done = shell('"$PYTHON" -c "$RUN" measure x.npy --json > /dev/full')
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*No space left.*\n", done.stderr)


@posix
@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_ctrl_c_while_the_command_loads(tmp_path: Path, delay: float) -> None:
    # The program says when NumPy begins to load, which with the rest takes longer than the longest delay. A shell lets
    # what it runs in the background ignore the signal, and so all that is started from there.
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from types import "
        "SimpleNamespace as N; sys.meta_path.insert(0, N(find_spec=lambda name, *_: print('loading', flush=True) if "
        "name == 'numpy' else None)); import isoscore_star_shell; sys.exit(isoscore_star_shell.main())"
    )
    command = [sys.executable, "-c", start, "--version"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


def test_the_command_runs(points: np.ndarray) -> None:
    start = "import sys, isoscore_star_shell; sys.exit(isoscore_star_shell.main())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", start, "measure", "x.npy", "--key", "a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "x.npy: has no array 'a'" in done.stderr
