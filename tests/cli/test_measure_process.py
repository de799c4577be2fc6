"""``isoscore-star measure`` as a process: pipes, terminals, memory, Ctrl-C."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from point_files import cloud, save

pytest.importorskip("typer")
pytest.importorskip("rich")


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows lacks SIGINT for a child, getrusage, pty, mkfifo")


RUN = "import sys; from isoscore_star.cli import main; code = main(sys.argv[1:]); "


def large_npy(path, rows, dim=256):
    """Make a .npy file that is large but for the most part a hole, with some points at its start."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.write(cloud(100, dim, np.float32).tobytes())
        file.truncate(start + rows * dim * 4)


def test_a_pipe_gets_no_progress_bar(folder):
    save("x.npy", cloud())
    command = [sys.executable, "-c", RUN + "sys.exit(code)", "measure", "x.npy", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["union"]["count"] == 300


@posix
def test_a_terminal_gets_a_progress_bar(folder):
    import pty

    save("x.npy", cloud())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", RUN + "sys.exit(code)", "measure", "x.npy", "--json"]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            while part := os.read(ours, 4096):
                shown += part
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert json.loads(out)["union"]["count"] == 300
    assert b"reading" in shown


@pytest.mark.sampled
@pytest.mark.parametrize("more", [["--groups", "none"], ["--by-layer"]])
def test_signs_that_the_terminal_cannot_show(folder, more):
    save("x.npy", cloud(600).reshape(2, 300, 5))
    command = [sys.executable, "-c", RUN + "sys.exit(code)", "measure", "x.npy", *more]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"0\.\d{4} \? 0\.\d{4}", done.stdout)  # score ± standard error


@pytest.mark.slow
@posix
def test_memory_does_not_grow_with_the_file(folder):
    report = RUN + "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, code)"
    peaks = []
    for rows in (40_000, 600_000):
        large_npy(folder / "x.npy", rows)
        command = [sys.executable, "-c", report, "measure", "x.npy", "--json"]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        peak, code = map(int, out.splitlines()[-1].split())
        assert code == 0
        peaks.append(peak if sys.platform == "darwin" else peak * 1024)
    # The files have 41 MB and 614 MB; both fill the blocks (2**22 values, 16 MB, of which two are held at a time) and
    # the sample. So the peaks should be equal, and one more pair of blocks is what allocation may add by chance.
    assert peaks[1] - peaks[0] < 2 * 16 * 2**20


@posix
def test_ctrl_c(folder):
    # The program says when it has begun to read, which takes far longer than this test waits: the file has 200 GB.
    large_npy(folder / "x.npy", 200_000_000)
    announce = (
        "from isoscore_star.readers import StreamedCloud; take = StreamedCloud.take; "
        "StreamedCloud.take = lambda *args: (print('reading', flush=True), take(*args)); "
    )
    # A shell lets what it runs in the background ignore the signal, and so all that is started from there.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", heed + announce + RUN + "sys.exit(code)", "measure", "x.npy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")
