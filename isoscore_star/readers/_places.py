"""What a FILE argument stands for: a file, or the files of a folder or of a pattern, which together are one array."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from isoscore_star.readers._errors import SelectionError
from isoscore_star.readers._formats import SUFFIXES, folder_format, format_of, is_on_hub
from isoscore_star.readers._names import listed

_PARTITIONED = (".parquet", ".arrow", ".feather")
_HIDDEN = (".", "_")
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Place:
    """What a FILE argument stands for.

    Attributes
    ----------
    name : str
        The argument.
    shards : tuple of Path
        The files, in the order of their rows.
    is_several : bool
        Whether they were found in a folder or by a pattern.
    notes : tuple of str
        What was taken, and what was left out.
    is_partitioned : bool
        Whether names of folders (``year=2024``) are columns.
    """

    name: str
    shards: tuple[Path, ...]
    is_several: bool = False
    notes: tuple[str, ...] = ()
    is_partitioned: bool = False


def located(name: str | Path) -> Place:
    """Return what a name stands for.

    Raises
    ------
    SelectionError
        If a folder or a pattern has no file of a known format, or files of several.
    """
    if not str(name).strip():
        raise SelectionError("file", f"expected a name; got {name!r}. The current folder is '.'")
    path = Path(name)
    if path.is_dir() and folder_format(path) is None:
        return _in_folder(path)
    if has_magic(str(name)) and not path.exists():
        found = map(Path, glob(str(name), recursive=True))  # noqa: PTH207  # which leaves hidden files out
        return _chosen(str(name), [one for one in found if one.is_file() or folder_format(one)], ())
    return Place(str(name), (path,))


def is_place(name: str) -> bool:
    """Return whether there is a file of a name, a folder of files of a known format, or a file that fits a pattern."""
    path = Path(name)
    if not path.is_dir() and not has_magic(name):
        return path.is_file() or is_on_hub(path)
    try:
        return bool(located(name).shards)
    except SelectionError:
        return False


def _in_folder(folder: Path) -> Place:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(_HIDDEN)]
    within = [entry for entry in entries if entry.is_dir() and folder_format(entry) is None]
    files = [entry for entry in entries if entry not in within]
    if any("=" in entry.name for entry in within) or not any(map(format_of, files)):
        below = [file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder))]
        nested = [file for file in below if format_of(file) in _PARTITIONED]
        if nested:
            return _chosen(str(folder), nested, [file for file in below if file not in set(nested)], partitioned=True)
        if within:
            raise SelectionError(
                folder,
                f"is a folder of folders, {listed(sorted(entry.name for entry in within))}, without partitions of "
                f"Parquet or Arrow files; give a pattern in quotes, such as '{folder}/**/*.npy'",
            )
    return _chosen(str(folder), files, ())


def _chosen(name: str, found: list[Path], others: Iterable[Path], *, partitioned: bool = False) -> Place:
    """Take the files of the one known format among those that were found."""
    known = sorted(filter(format_of, found), key=natural_order)
    what = "is a folder that" if Path(name).is_dir() else "is a pattern that"
    formats = Counter(map(format_of, known))
    if not known:
        reason = "holds no file" if Path(name).is_dir() else "fits no file"
        raise SelectionError(name, f"{what} {reason} of a known format; these are {', '.join(SUFFIXES)}")
    if len(formats) > 1:
        counts = ", ".join(f"{count:,} {form}" for form, count in formats.most_common())
        raise SelectionError(
            name,
            f"{what} has files of several formats ({counts}); give a pattern in quotes for those that are points, "
            f"such as '{Path(name) if Path(name).is_dir() else Path(name).parent}/*{next(iter(formats))}'",
        )
    left_out = sorted({*others, *found} - set(known), key=natural_order)
    shown = listed(path.name for path in left_out)
    ends = [str(path.relative_to(name)) if Path(name).is_dir() else str(path) for path in (known[0], known[-1])]
    taken = (
        f"took {len(known):,} files, {ends[0]!r} to {ends[1]!r}, as one array"
        if len(known) > 1
        else (f"took {ends[0]!r}")
    )
    notes = (taken, *([f"left out {shown}"] if left_out else []))
    return Place(name, tuple(known), True, notes, partitioned)


def natural_order(path: Path) -> list[tuple[tuple[str, int], ...]]:
    """Return a key by which shard 10 comes after shard 9."""
    return [
        tuple((part, -1) if i % 2 == 0 else ("", int(part)) for i, part in enumerate(_DIGITS.split(name)))
        for name in path.parts
    ]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(_HIDDEN) for part in path.parts)
