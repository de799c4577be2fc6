"""Fuzz the numeric calls of the library: drawn clouds and arguments through every backend, against long double.

    python tests/fuzz/calls.py --calls 200000 --seed 0 [--backend torch] [--case 1234]

Prints a table of the calls by backend and function: right, errors of the library's own, failures, and the worst error
in units of the bound. A failure is a wrong number, NaN, a warning that leaks, a foreign exception, or an error where
there is an answer. Each is written with its seed, backend and case, by which ``--case`` repeats it alone. The exit
status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # beside this file no folder of tests is on the path
    sys.path[0] = str(Path(__file__).parents[1])
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from adapters import ADAPTERS
from fuzz import cases, covariances, scores, wrong
from fuzz.trial import Trial
from fuzz.verdict import Outcome, outcome

_WIDE = ("float64", "float64", "float64", "float32", "float32", "float32")
_NARROW = ("float16", "bfloat16")


class Target(NamedTuple):
    """A backend, and how many of a hundred calls are its."""

    adapter: str
    dtypes: tuple[str, ...]
    share: int
    shapes: tuple[tuple[int, int], ...] = ()
    x64: bool = True


TARGETS = {
    "numpy": Target("numpy", (*_WIDE, "float16", *cases.INTEGERS), 36),
    "autograd": Target("autograd", (*_WIDE, "float16"), 16),
    "torch": Target("torch", (*_WIDE, *_NARROW, *cases.INTEGERS), 24),
    "tensorflow": Target("tensorflow", (*_WIDE, *_NARROW, *cases.INTEGERS), 8),
    "jax": Target("jax", (*_WIDE, *_NARROW, "int8", "int64"), 8, shapes=cases.FIXED_SHAPES),
    "jax without x64": Target("jax", ("float32", *_NARROW, "int8"), 4, shapes=cases.FIXED_SHAPES, x64=False),
    "keras": Target("keras", (*_WIDE, *_NARROW), 4),
}


class Record(NamedTuple):
    """One call that was made."""

    backend: str
    case: int
    function: str
    what: str
    inside: bool
    outcome: Outcome


def run(
    backend: str, seed: int, case: int, *, target: Target | None = None, largest: int = 400_000
) -> Iterator[Record]:
    """Make the calls of one case."""
    target = target or TARGETS[backend]
    rng = np.random.default_rng([seed, case, list(TARGETS).index(backend)])
    adapter = ADAPTERS[target.adapter]
    with _precision(target):
        which = rng.random()
        if which < 0.08:
            made: Any = wrong.calls(adapter, rng)
            what = "bad input"
        elif which < 0.16:
            made, what = covariances.calls(adapter, rng, target.dtypes, few=bool(target.shapes)), "covariance"
        else:
            drawn = cases.draw(rng, target.dtypes, shapes=target.shapes, largest=largest)
            wide = drawn.dtype == "float64" or (drawn.dtype in cases.INTEGERS and target.x64)
            precision = "float64" if wide else "half" if drawn.dtype in _NARROW else "float32"
            made, what = scores.calls(Trial(adapter, rng, drawn, precision), 4), str(drawn)
        for function, call, expected in made:
            yield Record(backend, case, function, what, expected.inside, outcome(call, expected))


@contextlib.contextmanager
def _precision(target: Target) -> Iterator[None]:
    if target.adapter != "jax":
        yield
        return
    import jax

    switch: Any = jax if hasattr(jax, "enable_x64") else jax.experimental  # before JAX 0.8
    with switch.enable_x64(target.x64):
        yield


def schedule(backends: list[str]) -> Iterator[str]:
    """Give the backends in turn for ever, each by its share."""
    ahead = dict.fromkeys(backends, 0.0)
    while True:
        for name in backends:
            ahead[name] += TARGETS[name].share
        chosen = max(ahead, key=lambda name: ahead[name])
        ahead[chosen] -= sum(TARGETS[name].share for name in backends)
        yield chosen


def table(records: dict[tuple[str, str], list[Any]]) -> str:
    lines = [f"{'backend':17}{'function':32}{'calls':>8}{'right':>8}{'failed':>8}{'worst':>9}  errors"]
    for (backend, function), (counts, errors, worst) in sorted(records.items()):
        named = ", ".join(f"{name} {count}" for name, count in sorted(errors.items()))
        lines.append(
            f"{backend:17}{function:32}{counts['calls']:8}{counts['right']:8}{counts['failed']:8}{worst:9.2g}  {named}"
        )
    total = Counter()
    for counts, errors, _ in records.values():
        total.update(counts)
        total["errors"] += sum(errors.values())
    lines.append(
        f"{total['calls']} calls: {total['right']} right, {total['errors']} errors of the library's own, "
        f"{total['failed']} failed ({total['inside']} of them inside the declared range)"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=list(TARGETS), action="append", help="default: all; may be repeated")
    parser.add_argument("--case", type=int, help="repeat one case alone")
    parser.add_argument("--failures", type=Path, default=Path("fuzz_failures.jsonl"), help="where failures are written")
    options = parser.parse_args()
    backends = options.backend or list(TARGETS)
    if options.case is not None:
        records = [record for backend in backends for record in run(backend, options.seed, options.case)]
        print(*(f"{r.backend}: {r.function}: {r.what}\n    {r.outcome}" for r in records), sep="\n")
        return int(any(record.outcome.failure for record in records))

    found: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [Counter(), Counter(), 0.0])
    made, failed, started, spent = 0, 0, time.monotonic(), Counter()
    turns = schedule(backends)
    with options.failures.open("w", encoding="utf-8") as file:
        for case, backend in enumerate(turns):
            if made >= options.calls:
                break
            since = time.monotonic()
            for record in run(backend, options.seed, case):
                made += 1
                entry = found[backend, record.function.split(":")[0]]
                entry[0]["calls"] += 1
                if record.outcome.failure:
                    failed += 1
                    entry[0]["failed"] += 1
                    entry[0]["inside"] += record.inside
                    fields = {"seed": options.seed} | record._asdict() | {"outcome": record.outcome.failure}
                    file.write(json.dumps(fields) + "\n")
                elif record.outcome.error:
                    entry[1][record.outcome.error] += 1
                else:
                    entry[0]["right"] += 1
                    entry[2] = max(entry[2], record.outcome.worst)
            spent[backend] += time.monotonic() - since
    print(table(found))
    print(f"{time.monotonic() - started:.0f} s:", ", ".join(f"{name} {t:.0f} s" for name, t in spent.items()))
    if failed:
        print(f"failures are in {options.failures}; repeat one by --seed {options.seed} --backend NAME --case NUMBER")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
