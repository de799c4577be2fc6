"""``isoscore-star validate``: comparison of every backend on this machine with the reference."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from isoscore_star import available_backends, get_backend
from isoscore_star.cli.options import AsJson
from isoscore_star.cli.printable import printable
from isoscore_star.validation import ADAPTERS, Check
from isoscore_star.validation import validate as run_checks


def validate(as_json: AsJson = False) -> None:
    """Compare every installed backend, on every device and in every precision, with the paper's Algorithm 1.

    Exits with 1 if any value or gradient is out of tolerance.
    """
    _load_quietly()
    checks = run_checks()
    failed = [check for check in checks if not check.passed]
    if as_json:
        print(json.dumps({"passed": not failed, "checks": [check.to_dict() for check in checks]}, indent=2))
    else:
        console = Console()
        console.print(_table(checks))
        cases = max(check.cases for check in checks)
        console.print(f"Largest errors over up to {cases} clouds, against Algorithm 1 in float64 on the same points.")
        for name in sorted(set(available_backends()) - set(ADAPTERS)):
            console.print(f"Not validated: {printable(name)} (no adapter in isoscore_star.validation.ADAPTERS).")
    for check in failed:
        where = " ".join(filter(None, (check.backend, check.device, check.dtype)))
        text = f"{where}: {check.failure or f'out of tolerance, worst in the case {check.worst!r}'}"
        Console(stderr=True).print(printable(text), markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _load_quietly() -> None:
    """Load every framework, with stderr closed to the messages that TensorFlow's C++ logs on import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        for name in available_backends():
            with suppress(Exception):  # the checks raise it again, and report it
                get_backend(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _table(checks: list[Check]) -> Table:
    table = Table(title="Backends against the reference", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for heading in ("backend", "device", "dtype"):
        table.add_column(heading, no_wrap=True)
    for heading in ("value\nerror", "gradient\nerror", "tolerance"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for check in checks:
        gradient = "none" if check.gradient_error is None else f"{check.gradient_error:.1e}"
        allowed = f"{check.tolerance.value:.0e}"
        if check.gradient_error is not None:
            allowed += f", {check.tolerance.gradient:.0e}"
        verdict = "[green]ok[/green]" if check.passed else "[bold red]OUT[/bold red]"
        table.add_row(check.backend, check.device, check.dtype, f"{check.value_error:.1e}", gradient, allowed, verdict)
    return table
