"""``python -m paper_checks``: check the claims, print the verdicts, write the results; 1 if one fails."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from paper_checks._cache import Cache
from paper_checks._claim import Claim, Run, Verdict
from paper_checks._report import show, write_results
from paper_checks._runner import all_claims, chosen, run_claims

_LEAST_WIDTH = 150  # seven columns of words; in a pipe a console takes itself for 80 wide


def main(arguments: Sequence[str] | None = None, claims: Sequence[Claim] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.
    claims : sequence of Claim, optional
        By default all that there are.

    Returns
    -------
    int
        0; 1 if a claim that should hold does not, or its check broke; 2 for a wrong use.
    """
    known = all_claims() if claims is None else claims
    parser = argparse.ArgumentParser("python -m paper_checks", description="Check the claims of the papers.")
    parser.add_argument("--quick", action="store_true", help="smaller samples, for CI")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a claim, by name or number")
    parser.add_argument("--output", type=Path, default=Path("paper_results"), help="folder (default: %(default)s)")
    training = parser.add_argument_group("claims of the regularizer (8 to 14, 17 and 18)")
    training.add_argument("--model", action="append", default=[], metavar="NAME", help="of the hub, or a folder")
    training.add_argument("--task", action="append", default=[], metavar="NAME", help="a GLUE task; sst2 by default")
    training.add_argument("--paper-size", action="store_true", help="all data, as the paper; for a GPU")
    training.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: a core each; a GPU one)")
    parser.add_argument("--list", action="store_true", help="name the claims and stop")
    options = parser.parse_args(arguments)
    if options.list:
        for claim in known:
            print(f"{claim.number:2}  {claim.name:24} {claim.title}")
        return 0
    try:
        wanted = chosen(known, options.only)
    except KeyError as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 2
    if options.quick and options.paper_size:
        print("error: --quick and --paper-size exclude each other", file=sys.stderr)
        return 2
    if options.jobs is not None and options.jobs < 1:
        print(f"error: --jobs: expected at least 1; got {options.jobs}", file=sys.stderr)
        return 2
    run = Run(
        quick=options.quick,
        output=options.output,
        cache=Cache(options.output / "cache"),
        models=tuple(options.model),
        tasks=tuple(options.task),
        paper_size=options.paper_size,
        jobs=options.jobs,
    )
    records = run_claims(wanted, run, lambda line: print(line, file=sys.stderr, flush=True))
    console = Console(highlight=False, emoji=False)
    show(
        records, console if console.width >= _LEAST_WIDTH else Console(width=_LEAST_WIDTH, highlight=False, emoji=False)
    )
    print(f"Results are in {write_results(options.output)}, figures and numbers beside it.")
    return int(any(Verdict(record["verdict"]).bad for record in records))


if __name__ == "__main__":
    sys.exit(main())
