"""``isoscore-star watch``: the log of a run, while it grows."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from isoscore_star import IsoScoreError
from isoscore_star.cli.options import folder
from isoscore_star.cli.printable import note, printable
from isoscore_star.cli.watch_tables import headline, lines_after, view
from isoscore_star.watching import Log, NoFolderError, NoLogError, Watched, open_log

_PIPE_WIDTH = 200  # characters a line without a terminal


def watch(
    run_dir: Annotated[
        Path,
        typer.Argument(
            parser=folder,
            metavar="RUN_DIR",
            help="Folder of finetune, output folder of a Trainer, or folder of Lightning's or TensorBoard's logs.",
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="Show what is there, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object of what is there, and end; see docs/watch.md.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.05, max=86400, help="Seconds between two looks.")] = 2.0,
    idle: Annotated[
        float | None, typer.Option(min=0.05, metavar="SECONDS", help="End when nothing new came for so long.")
    ] = None,
) -> None:
    """Show a training while it goes on: loss, metric, and the isotropy of each layer.

    Ends with the run, or with Ctrl-C; it only reads.
    """
    if as_json:
        print(json.dumps(open_log(run_dir).read().to_dict(), indent=2, allow_nan=False))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=_PIPE_WIDTH)
    if once:
        console.print(view(open_log(run_dir).read(), console))
        return
    try:
        log = _opened(run_dir, interval)
        if console.is_terminal:
            _show(log, console, interval, idle)
        else:
            _print_lines(log, console, interval, idle)
    except KeyboardInterrupt:
        pass  # the usual way to leave


def _opened(run_dir: Path, interval: float) -> Log:
    """Return the log; wait for a folder that is not there yet, and then for its first file."""
    waited = False
    while True:
        try:
            return open_log(run_dir)
        except NoFolderError:
            if not waited:
                note(f"waiting for {run_dir}; Ctrl-C ends")
            waited = True
        except NoLogError:
            if not waited:
                raise
        time.sleep(interval)


class _Looks:
    """Looks at a log, and whether to go on after each."""

    def __init__(self, log: Log, interval: float, idle: float | None) -> None:
        self._log, self._interval, self._idle = log, interval, idle
        self._seen: object = None
        self._since = time.monotonic()
        self.last: Watched | None = None

    def look(self) -> Watched | None:
        """Read what is there; an error, as of a file that is just written, is a note until the next look."""
        try:
            self.last = self._log.read()
        except (IsoScoreError, OSError) as error:
            if self.last is None:
                raise
            self.last = replace(self.last, notes=(f"the last look failed: {error}",))
        return self.last

    def go_on(self) -> bool:
        """Wait for the next look; return False after the end of the run."""
        watched = self.last
        if watched is not None and watched.finished:
            return False
        seen = watched and [(run.name, run.step, run.state) for run in watched.runs]
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        if self._idle is not None and time.monotonic() - self._since >= self._idle:
            return False
        time.sleep(self._interval)
        return True


def _show(log: Log, console: Console, interval: float, idle: float | None) -> None:
    looks = _Looks(log, interval, idle)
    first = view(looks.look() or log.read(), console, height=console.height)
    with Live(first, console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while looks.go_on():
            watched = looks.look()
            if watched is not None:
                live.update(view(watched, console, height=console.height), refresh=True)
        live.refresh()


def _print_lines(log: Log, console: Console, interval: float, idle: float | None) -> None:
    """Print a line for each step, for a pipe or a file."""
    looks = _Looks(log, interval, idle)
    printed: dict[str, int | None] = {}
    while True:
        watched = looks.look()
        for run in () if watched is None else watched.runs:
            before = printed.get(run.name)
            if run.name in printed and before is None and run.step is None:
                continue  # it has begun, as was told
            if before is not None and (run.step is None or run.step < before):
                before = None  # it began again
            for text in lines_after(run, before):
                print(text)  # a console takes minutes for a long log
            printed[run.name] = run.step
        console.file.flush()
        if not looks.go_on():
            break
    if looks.last is not None:
        console.print(headline(looks.last), soft_wrap=True)
        for text in looks.last.notes:
            console.print(f"note: {printable(text)}", soft_wrap=True)
