"""Text from files and arguments, with escapes for what a terminal would obey."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    r"""Write control characters, marks of direction and lone surrogates as escapes.

    Examples
    --------
    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def note(text: str) -> None:
    """Print a note to stderr."""
    print(f"note: {printable(text)}", file=sys.stderr)
