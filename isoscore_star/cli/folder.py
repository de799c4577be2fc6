"""The folder that ``--output`` names."""

from __future__ import annotations

from pathlib import Path

import typer


def folder(text: str | Path) -> Path:
    """Read the option; an empty word, as of a variable that is not set, is not the current folder."""
    if not str(text).strip():
        raise typer.BadParameter(f"expected a folder; got {text!r}. The current one is '.'")
    return Path(text)
