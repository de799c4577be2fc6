"""Reading of clouds into a part, which is written down from time to time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from isoscore_star import InvalidValueError
from isoscore_star.parts._inputs import difference
from isoscore_star.parts._part import KIND, Part, read_part
from isoscore_star.readers import Cloud, FileContentError, SelectionError
from isoscore_star.recorded_arrays import Pace, record_of, require_safetensors


def read_in_parts(
    part: Part,
    clouds: Sequence[Cloud],
    checkpoint: Path | None = None,
    *,
    seconds: float = 30.0,
    progress: Callable[[int], None] = lambda rows: None,
    failed: Callable[[InvalidValueError], None] | None = None,
    resumed: Callable[[str], None] = lambda text: None,
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
    failed : callable, optional
        Called with the error where the state cannot be written any more, and the reading goes on; raised without it.
    resumed : callable, optional
        Called with a sentence where the file holds a part.

    Returns
    -------
    Part
        The part, or the one in the file.

    Raises
    ------
    SelectionError
        If the file holds a part of other points or options, or something else.
    InvalidValueError
        If the file cannot be written.
    """
    if checkpoint is not None:
        require_safetensors("a checkpoint")
        if checkpoint.is_dir():
            raise SelectionError("checkpoint", f"{checkpoint} is a folder. Give the name of a file")
        if checkpoint.exists():
            part = _of_same_settings(checkpoint, part)
            reached = f"goes on after {part.rows:,} rows" + f" of array {part.source + 1}" * (part.source > 0)
            resumed(f"{checkpoint} {'holds the whole result' if part.finished else reached}")
        else:
            part.write(checkpoint)  # so that it fails before anything was read
    pace = Pace(seconds)

    def save() -> None:
        assert checkpoint is not None
        if checkpoint.exists() and (record_of(checkpoint, KIND) or {}).get("settings") != part.settings:
            raise SelectionError("checkpoint", f"{checkpoint} was replaced by another command. Choose another file")
        try:
            with pace.writing():
                part.write(checkpoint)
        except InvalidValueError as error:
            if failed is None:
                raise
            failed(error)

    for number, cloud in enumerate(clouds):
        if number < part.source or part.finished:
            progress(cloud.rows or 0)
            continue
        progress(part.rows)

        def advance(count: int) -> None:
            part.rows += count
            progress(count)
            if checkpoint is not None and pace.is_due():
                save()

        own = part.clouds[number if len(part.clouds) > 1 else 0]
        mask = None if cloud.mask is None else cloud.mask.reshape(-1)
        own.take(cloud.source, mask, advance, cloud.groups, skip=part.rows)
        part.source, part.rows = number + 1, 0
    if not part.finished:
        part.finished = True
        if checkpoint is not None:
            save()
    return part


def _of_same_settings(path: Path, part: Part) -> Part:
    try:
        found = read_part(path)
    except FileContentError as error:
        raise SelectionError(
            "checkpoint", f"{path} is no part of a measurement, or a damaged one. Choose another file"
        ) from error
    before, now = found.settings, part.settings
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            what = f"{name} was {before.get(name)!r}, is now {now.get(name)!r}"
            if name == "merged":
                what = "it holds merged parts"
            elif name in ("files", "beside") and "merged" not in before:
                what = difference(before.get(name), now.get(name))
            raise SelectionError(
                "checkpoint",
                f"{path} is of other points or options: {what}. Choose another file, or delete it to start anew",
            )
    return found
