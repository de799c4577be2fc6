"""Entry point of the command ``isoscore-star``, outside the package so that Ctrl-C works while that loads."""

from __future__ import annotations

import importlib
import os
import signal
from contextlib import suppress
from typing import NoReturn


def main() -> int:
    """Load the command line and run it; see `isoscore_star.cli.main`."""
    # Not KeyboardInterrupt, which compiled modules turn into other errors while they load.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _leave)
    with suppress(ImportError):  # main imports it again, and explains the error
        importlib.import_module("isoscore_star.cli.app")
    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    from isoscore_star.cli import main as run

    return run()


def _leave(number: int, frame: object) -> NoReturn:
    with suppress(OSError):
        os.write(2, b"error: interrupted\n")
    os._exit(130)
