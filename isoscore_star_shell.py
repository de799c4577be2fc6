"""What the command ``isoscore-star`` starts: outside of the package, so that Ctrl-C is heeded while that loads."""

from __future__ import annotations

import importlib
import os
import signal
from contextlib import suppress
from typing import NoReturn


def main() -> int:
    """Load the command line, and run it; see `isoscore_star.cli.main`."""
    # Not an exception: what loads in compiled modules turns that into errors of its own.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    with suppress(ImportError):  # which is met again, and explained
        importlib.import_module("isoscore_star.cli.app")
    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    from isoscore_star.cli import main as run

    return run()


def _leave(number: int, frame: object) -> NoReturn:
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")
    os._exit(130)
