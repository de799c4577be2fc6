"""A process that is killed loses nothing: the same command goes on, and ends with the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("safetensors")

KILLED = """
import io, json, os, signal, sys, time
from contextlib import redirect_stdout
import numpy as np
from isoscore_star.cli import main

command, state = sys.argv[1:-1], sys.argv[-1]
rng = np.random.default_rng(0)


def run(checkpoint):
    out = io.StringIO()
    with redirect_stdout(out):
        code = main([*command, "--checkpoint", checkpoint, "--checkpoint-every", "0", "--json"])
    return code, out.getvalue()


started = time.monotonic()
code, whole = run("uninterrupted.part")
took = time.monotonic() - started
kills = unfinished = 0
while kills < 20:
    child = os.fork()
    if child == 0:
        run(state)
        os._exit(0)
    # Later in each round, since each goes on where the last one came to, and at times too early for any progress.
    time.sleep(took * rng.uniform(0, 0.2))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    kills += os.WIFSIGNALED(status)
    if os.path.exists(state):
        from pathlib import Path
        from isoscore_star.parts import read_part
        part = read_part(Path(state))
        unfinished += part.rows > 0 and not part.finished
    if not os.WIFSIGNALED(status):
        os.unlink(state)  # it came to the end: begin anew
print(json.dumps([kills, unfinished, code, run(state)[1] == whole, len(whole)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("what", ["points", "sequences"])
def test_twenty_kills(tmp_path: Path, what: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1200, 100, 256)).astype(np.float32)  # eight blocks
    np.save(tmp_path / "points.npy", points if what == "sequences" else points.reshape(-1, 256))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "measure", "points.npy", "state.part"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    kills, unfinished, code, same, length = json.loads(done.stdout.splitlines()[-1])
    assert (kills, code, same) == (20, 0, True)
    assert unfinished >= 3  # some kills came between two writings
    assert length > 300
