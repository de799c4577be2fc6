"""How long a file takes against reading it and against the bare product, and in which memory.

Run ``python benchmarks/any_size.py [--gigabytes 4] [--folder /tmp] [--write FILE]``. Points of float32, d = 768, are
written into `--folder` and deleted in the end. Each figure is the median of three; each measurement is a process of its
own, whose peak memory Linux tells; imports are not in the times. The file is in the system's cache: no disk is
waited for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from tables import HERE, report, with_write

DIM, BLOCK, TOKENS, REPEATS = 768, 8192, 100, 3

MEASURED = """
import json, sys, time
from pathlib import Path
from isoscore_star.parts import Part, plan, read_in_parts
from isoscore_star.readers import open_clouds
import numpy, scipy.linalg
numpy.ones((512, 512)) @ numpy.ones((512, 512))  # threads are started
start = time.perf_counter()
clouds = open_clouds([Path(sys.argv[1])], groups=sys.argv[2])
part = Part({}, int(sys.argv[3]), [""], plan(int(sys.argv[3]), 1, clouds[0].groups is not None, None))
read_in_parts(part, clouds).measurement().unbiased_score
seconds = time.perf_counter() - start
# getrusage would count what the parent held before this program was started in its place.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, 1024 * int(peak)]))
"""


def measured(path: Path, groups: str) -> tuple[float, float]:
    """Return seconds and bytes of a process that measures a file."""
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", MEASURED, str(path), groups, str(DIM)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(REPEATS)
    ]
    return median(seconds for seconds, _ in found), max(memory for _, memory in found)


def seconds(action: Callable[[], object]) -> float:
    """Return the median time of an action."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)


def read_raw(path: Path) -> None:
    buffer = bytearray(2**25)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def read_parquet(path: Path) -> None:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(BLOCK):
        batch.column(0).values.to_numpy()


def products(rows: int) -> None:
    block = np.random.default_rng(0).normal(size=(BLOCK, DIM)).astype(np.float32)
    for _ in range(rows // BLOCK):
        block.T @ block


def blocks(rows: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(min(rows, 4 * BLOCK), DIM)).astype(np.float32) * np.geomspace(2, 0.3, DIM, dtype=np.float32)


def write_npy(path: Path, rows: int, shape: tuple[int, ...]) -> None:
    part = blocks(rows)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for start in range(0, rows, len(part)):
            file.write(part[: rows - start].tobytes())


def write_safetensors(path: Path, rows: int) -> None:
    part, size = blocks(rows), rows * DIM * 4
    header = json.dumps({"points": {"dtype": "F32", "shape": [rows, DIM], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for start in range(0, rows, len(part)):
            file.write(part[: rows - start].tobytes())


def write_parquet(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = blocks(rows)
    schema = pa.schema([("points", pa.list_(pa.float32(), DIM))])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, len(part)):
            values = pa.FixedSizeListArray.from_arrays(pa.array(part[: rows - start].ravel()), DIM)
            writer.write_table(pa.table([values], schema), row_group_size=BLOCK)


def main() -> None:
    parser = with_write(__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    rows = int(arguments.gigabytes * 1e9 / (4 * DIM)) // BLOCK * BLOCK
    product = seconds(lambda: products(rows))
    kinds: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], None]]] = {
        "npy": ("points.npy", lambda path: write_npy(path, rows, (rows, DIM)), read_raw),
        "npy, sequences": (
            "sequences.npy",
            lambda path: write_npy(path, rows // TOKENS * TOKENS, (rows // TOKENS, TOKENS, DIM)),
            read_raw,
        ),
        "safetensors": ("points.safetensors", lambda path: write_safetensors(path, rows), read_raw),
        "Parquet": ("points.parquet", lambda path: write_parquet(path, rows), read_parquet),
    }
    lines = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for kind, (name, write, read) in kinds.items():
            path = Path(folder, name)
            write(path)
            reading = seconds(lambda path=path, read=read: read(path))  # type: ignore[misc]  # bound, not inferred
            took, memory = measured(path, "auto")
            path.unlink()
            ratio = took / max(reading, product)
            lines.append(f"| {kind} | {reading:.1f} | {product:.1f} | {took:.1f} | {ratio:.2f} | {memory / 1e6:,.0f} |")
    report(
        arguments.write,
        "Files larger than memory",
        f"Made by `python benchmarks/any_size.py --gigabytes {arguments.gigabytes:g} --write benchmarks/ANY_SIZE.md`, "
        f"{HERE}, {os.cpu_count()} cores. {rows:,} points of float32, d = {DIM}, {rows * DIM * 4 / 1e9:.1f} GB, "
        f"medians of {REPEATS}. Reading is that of the bytes from the system's cache, of Parquet by pyarrow.",
        [
            "| format | reading, s | products XᵀX alone, s | measure, s | of the larger one | peak memory, MB |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ],
        lines,
    )


if __name__ == "__main__":
    main()
