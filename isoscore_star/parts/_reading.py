"""Reading of clouds into a part, which is written down from time to time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from isoscore_star.parts._inputs import difference
from isoscore_star.parts._part import Part, read_part
from isoscore_star.readers import Cloud, SelectionError
from isoscore_star.recorded_arrays import Pace, require_safetensors


def read_in_parts(
    part: Part,
    clouds: Sequence[Cloud],
    checkpoint: Path | None = None,
    *,
    seconds: float = 30.0,
    progress: Callable[[int], None] = lambda rows: None,
) -> Part:
    """Read clouds to their end, or go on where a killed process had come to.

    Parameters
    ----------
    part : Part
        Without points yet.
    clouds : sequence of Cloud
        One for each of its labels, or all of one union.
    checkpoint : Path, optional
        The file that keeps the state; it is left there, as the finished part.
    seconds : float, default 30.0
        Write the state no more often; 0 writes it after each block.
    progress : callable, optional
        Called with numbers of rows.

    Returns
    -------
    Part
        The part, or the one in the file.

    Raises
    ------
    SelectionError
        If the file holds a part of other points or options.
    """
    if checkpoint is not None:
        require_safetensors("a checkpoint")
        if checkpoint.exists():
            part = _of_same_settings(checkpoint, part)
    pace = Pace(seconds)
    for number, cloud in enumerate(clouds):
        if number < part.source or part.finished:
            progress(cloud.rows or 0)
            continue
        progress(part.rows)

        def advance(count: int) -> None:
            part.rows += count
            progress(count)
            if checkpoint is not None and pace.is_due():
                with pace.writing():
                    part.write(checkpoint)

        own = part.clouds[number if len(part.clouds) > 1 else 0]
        mask = None if cloud.mask is None else cloud.mask.reshape(-1)
        own.take(cloud.source, mask, advance, cloud.groups, skip=part.rows)
        part.source, part.rows = number + 1, 0
    if not part.finished:
        part.finished = True
        if checkpoint is not None:
            part.write(checkpoint)
    return part


def _of_same_settings(path: Path, part: Part) -> Part:
    found = read_part(path)
    before, now = found.settings, part.settings
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            what = (
                difference(before.get(name), now.get(name))
                if name == "files"
                else f"{name} was {before.get(name)!r}, is now {now.get(name)!r}"
            )
            raise SelectionError(
                "checkpoint",
                f"{path} is of other points or options: {what}. Choose another file, or delete it to start anew",
            )
    return found
