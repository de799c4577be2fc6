"""Fuzz the readers: valid files of every format, damaged, measured in a process of their own.

    python tests/fuzz/files.py --cases 5000 --seed 0 [--format .npz] [--case 1234] [--keep FOLDER]

Prints a table of what became of the files by format: the score of the undamaged file, another score that is right for
what the file's own library reads (numpy.load, torch.load, pyarrow, safetensors, csv), an error of the library's own, or
a failure: a wrong score, a score of what its library refuses, a warning that leaks, a foreign exception, a message
that is no line about the file, a process that died or did not come back. Each failure is written with its case, by
which ``--case`` repeats it alone. The exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # beside this file no folder of tests is on the path
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from fuzz.damage import Content, damaged
from fuzz.file_truth import algorithm_1
from fuzz.file_worker import work
from fuzz.valid_files import WRITERS, cloud

SECONDS = 60
"""What any file may take, on a machine that is busy."""
GOOD = ("as it was", "as its library reads it", "error")
# Products of float32 are exact to some 1e-6 of a score; a damaged exponent makes one point outweigh all others.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-9}


class Case(NamedTuple):
    """A file, by its number."""

    number: int
    suffix: str
    points: np.ndarray
    content: Content
    damage: str

    def write(self, path: Path) -> None:
        """Write the file, or the folder."""
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
            return
        path.mkdir()
        for name, content in self.content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)


class Verdict(NamedTuple):
    """What became of it."""

    case: Case
    outcome: str
    text: str = ""


def cases(count: int, seed: int, suffixes: tuple[str, ...], only: int | None = None) -> Iterator[Case]:
    """Make files, each drawn from a generator of its own."""
    for number in range(count) if only is None else [only]:
        rng = np.random.default_rng([seed, number])
        suffix, X = suffixes[number % len(suffixes)], cloud(rng)
        content, damage = damaged(rng, WRITERS[suffix](rng, X))
        yield Case(number, suffix, X, content, damage)


class Worker:
    """A process that is started anew when a file has ended it."""

    def __enter__(self) -> Worker:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(SECONDS)
        self._process.kill()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if self._receive(10 * SECONDS) != "ready":
            raise RuntimeError("the process that measures files does not start")

    def judge(self, case: Case, path: Path) -> Verdict:
        """Measure a file, and compare."""
        self._connection.send(str(path))
        found = self._receive(SECONDS)
        if isinstance(found, str):
            return Verdict(case, found)
        if found["kind"] != "score":
            return Verdict(case, found["kind"], found["text"])
        score, right, tolerance = found["score"], self._receive(SECONDS), TOLERANCE[case.points.dtype]
        # Damage that the points do not feel may be too much for their library, which checks other things too.
        if abs(score - algorithm_1(case.points)) <= tolerance:
            return Verdict(case, "as it was")
        if isinstance(right, str):
            return Verdict(case, "unreadable", f"scored {score:.6g}, but its library says: {right}")
        if all(abs(score - other) > tolerance for other in right):
            return Verdict(case, "wrong score", f"scored {score:.9g} for {right[0]:.9g}")
        return Verdict(case, "as its library reads it")

    def _receive(self, seconds: float) -> Any:
        try:
            if self._connection.poll(seconds):
                return self._connection.recv()
            outcome = "no end"
        except (EOFError, OSError):
            outcome = "process died"
        self._process.kill()
        self._process.join()
        if outcome == "process died":
            outcome += f" ({self._process.exitcode})"
        self._start()
        return outcome


def verdicts(found: Iterator[Case], keep: Path | None = None) -> Iterator[Verdict]:
    """Judge files one by one, and keep those that failed if there is a folder for them."""
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        for case in found:
            path = Path(folder, f"case_{case.number}{case.suffix}")
            case.write(path)
            verdict = worker.judge(case, path)
            if keep is not None and verdict.outcome not in GOOD:
                case.write(keep / path.name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            yield verdict


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=list(WRITERS), action="append", help="only these; may be repeated")
    parser.add_argument("--case", type=int, help="only this one, with the same --format as when it failed")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    chosen = parser.parse_args()
    if chosen.keep:
        chosen.keep.mkdir(parents=True, exist_ok=True)
    suffixes = tuple(chosen.format or WRITERS)
    counts: dict[str, Counter[str]] = {suffix: Counter() for suffix in suffixes}
    failures = 0
    for verdict in verdicts(cases(chosen.cases, chosen.seed, suffixes, chosen.case), chosen.keep):
        counts[verdict.case.suffix][verdict.outcome] += 1
        if verdict.outcome not in GOOD:
            failures += 1
            case = verdict.case
            print(f"--case {case.number} ({case.suffix}, {case.damage}): {verdict.outcome}: {verdict.text}"[:400])
        elif chosen.case is not None:
            print(f"{verdict.outcome}: {verdict.text}")
    outcomes = [*GOOD, *sorted({outcome for found in counts.values() for outcome in found} - set(GOOD))]
    print(f"{'format':<14}" + "".join(f"{outcome:>26}" for outcome in outcomes))
    for suffix, found in counts.items():
        print(f"{suffix:<14}" + "".join(f"{found[outcome]:>26}" for outcome in outcomes))
    print(f"{sum(found.total() for found in counts.values())} files, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
