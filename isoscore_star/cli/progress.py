"""The bar of commands that read points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from isoscore_star.readers import Cloud


@contextmanager
def reading(what: str, counts: Iterable[int | None]) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing in a pipe.

    Parameters
    ----------
    what : str
        What is done.
    counts : iterable of int or None
        Rows of each source, as often as they are read; None where a source does not tell.

    Yields
    ------
    callable
        Takes the number of rows that were read.
    """
    known = list(counts)
    total = None if None in known else sum(filter(None, known))
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def rows_read(clouds: Iterable[Cloud], again: int = 1) -> Iterator[int | None]:
    """Return the rows of each cloud, once and, of points in groups, so many times again."""
    return (cloud.rows and cloud.rows * (1 if cloud.groups is None else 1 + again) for cloud in clouds)
