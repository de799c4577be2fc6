"""A folder of Parquet files larger than memory, measured by a command that is killed again and again, and by Dask.

Run ``python benchmarks/killed.py [--gigabytes 20] [--kills 5] [--folder /tmp] [--write FILE]``. Shards of float32
columns ``emb_0`` to ``emb_767`` beside an id, written into `--folder` and deleted in the end. The command is started
and killed (SIGKILL) at moments drawn at random, then left to end. Linux tells the peak memory of each process.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tables import HERE, report, with_write

DIM, ROWS = 768, 65_536


def write_shards(folder: Path, gigabytes: float) -> int:
    """Write shards, and return the number of points."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = max(2, round(gigabytes * 1e9 / (4 * DIM * ROWS)))
    rng = np.random.default_rng(0)
    scales = np.geomspace(2, 0.3, DIM, dtype=np.float32)[:, None]
    for number in range(count):
        points = rng.standard_normal((DIM, ROWS), dtype=np.float32) * scales + 3
        columns = {"id": np.arange(ROWS)} | {f"emb_{i}": row for i, row in enumerate(points)}
        path = folder / f"part-{number}.parquet"
        pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False, row_group_size=8192)
    return count * ROWS


def peaks(process: int) -> list[int]:
    """Return the peak memory, in bytes, of a process and of those that it has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it has ended
            continue
        own = int(lines["Pid"]) == process
        if (own or int(lines["PPid"]) == process) and "VmHWM" in lines:
            found.append(1024 * int(lines["VmHWM"].split()[0]))
            found += [] if own else peaks(int(lines["Pid"]))
    return found


class Run:
    """A process of the command, killed after some seconds if they are given."""

    def __init__(self, arguments: list[str], folder: Path, kill_after: float = math.inf) -> None:
        command = [sys.executable, "-c", "import sys; from isoscore_star.cli import main; sys.exit(main())"]
        start = time.perf_counter()
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen([*command, *arguments, "--json"], cwd=folder, stdout=out)
            self.memory = 0
            while process.poll() is None:
                self.memory = max(self.memory, *peaks(process.pid), 0)
                if time.perf_counter() - start > kill_after:
                    process.kill()
                time.sleep(0.05)
            self.seconds = time.perf_counter() - start
            out.seek(0)
            self.result: dict[str, Any] | None = json.load(out)["union"] if process.returncode == 0 else None


def main() -> None:
    parser = with_write(__doc__)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        points = write_shards(folder, arguments.gigabytes)
        size = sum(path.stat().st_size for path in folder.iterdir())
        chosen = ["measure", "part-*.parquet", "--columns", "emb_*"]
        whole = Run([*chosen, "--checkpoint", "whole.state"], folder)
        draw = random.Random(0)
        killed: list[Run] = []
        kept = [*chosen, "--checkpoint", "killed.state", "--checkpoint-every", "1"]
        while len(killed) < arguments.kills:
            killed.append(Run(kept, folder, kill_after=draw.uniform(0.1, 0.9) * whole.seconds / 2))
            if killed[-1].result is not None:
                raise SystemExit("it came to its end before the kills did: give more gigabytes")
        resumed = Run(kept, folder)
        clustered = Run([*chosen, "--workers", "2"], folder)
    if whole.result is None or resumed.result is None or clustered.result is None:
        raise SystemExit("a command failed")

    def line(what: str, run: Run, memory: float) -> str:
        assert run.result is not None
        assert whole.result is not None
        error = max(abs(run.result[key] / whole.result[key] - 1) for key in ("score", "unbiased_score"))
        same = "the same bits" if run.result == whole.result else f"{error:.0e}"
        return f"| {what} | {run.seconds:.0f} | {memory / 1e6:,.0f} | {run.result['unbiased_score']:.6f} | {same} |"

    lines = [
        line("at once", whole, whole.memory),
        line(
            f"killed {len(killed)} times, after {', '.join(f'{run.seconds:.0f}' for run in killed)} s; the last start",
            resumed,
            max(run.memory for run in (*killed, resumed)),
        ),
        line("`--workers 2`, a local cluster of Dask; the largest process", clustered, clustered.memory),
    ]
    report(
        arguments.write,
        "Killed and gone on with",
        f"Made by `python benchmarks/killed.py --gigabytes {arguments.gigabytes:g} --kills {arguments.kills} --write "
        f"benchmarks/KILLED.md`, {HERE}, {os.cpu_count()} cores. {points:,} points of float32, d = {DIM}, in "
        f"{size / 1e9:.1f} GB of Parquet: `isoscore-star measure 'part-*.parquet' --columns 'emb_*' --checkpoint "
        "FILE`.",
        [
            "| | seconds | peak memory, MB | unbiased score | against the first |",
            "| --- | ---: | ---: | ---: | ---: |",
        ],
        lines,
    )


if __name__ == "__main__":
    main()
