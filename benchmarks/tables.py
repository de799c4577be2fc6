"""The end of each benchmark: its table, printed and written to a file."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HERE = f"NumPy {np.__version__}, {platform.machine()}"
"""What a table was made with."""


def with_write(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--write FILE``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    return parser


def report(write: Path | None, title: str, made_by: str, head: Sequence[str], rows: Sequence[str]) -> None:
    """Print a page with one table and, if a file is given, write it there."""
    text = "\n".join([f"# {title}", "", made_by, "", *head, *rows, ""])
    print(text)
    if write:
        write.write_text(text)
