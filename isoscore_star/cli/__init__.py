"""The command line. It needs typer and rich, which ``pip install "isoscore-star[cli]"`` brings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``isoscore-star``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command; by default those of the process.

    Returns
    -------
    int
        The exit code: 0, 1 for data that cannot be measured, 2 for wrong use, 130 after Ctrl-C.
    """
    _open_streams()
    try:
        from isoscore_star.cli.app import app
        from isoscore_star.cli.errors import run
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in ("typer", "rich"):
            raise
        print(
            f'error: the command line needs {package}, which is not installed: pip install "isoscore-star[cli]"',
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return run(app, arguments)


def _open_streams() -> None:
    """Open the standard streams that the caller closed (``2>&-``), in order, so that no file gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
