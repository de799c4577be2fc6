"""``isoscore-star measure --by``: the score of every class of points in files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import GroupedMeasurement, IsoScoreError, MissingDependencyError, measure_groups
from isoscore_star.atomic_files import replacing, writing_to
from isoscore_star.cli.errors import OptionError
from isoscore_star.cli.groupwise_tables import show_classes
from isoscore_star.cli.printable import note
from isoscore_star.cli.progress import reading
from isoscore_star.readers import Cloud, SelectionError, open_clouds, require_memory

_KINDS = (".csv", ".parquet")


def measure_by(
    files: Sequence[Path],
    by: str,
    mask: str | None,
    groups: str,
    key: Sequence[str],
    columns: Sequence[str],
    output: Path | None,
    as_json: bool,
    others: dict[str, bool],
) -> None:
    """Measure each class by itself; `others` are options that it does not take, and whether they were given."""
    for name, given in others.items():
        if given:
            raise OptionError(name, "it is of the whole alone, and was given with --by. Leave one of them out")
    if output is not None and (output.suffix not in _KINDS or output.is_dir()):
        raise OptionError("output", f"expected a file that ends in {' or '.join(_KINDS)}; got {output}")
    clouds = _with_labels(files, by, mask, key, columns)
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    dependent = None
    if not (by == "auto" and groups == "auto"):  # each entry of the first axis is a class, of independent points
        dependent = open_clouds(files, key, mask, groups=groups, columns=columns)
    measured = _measured(clouds, dependent)
    if output is not None:
        _write(measured, output)
    if as_json:
        print(json.dumps({"files": list(map(str, files)), "by": by, **measured.to_dict()}, indent=2))
    else:
        show_classes(measured, by)


def _with_labels(
    files: Sequence[Path], by: str, mask: str | None, key: Sequence[str], columns: Sequence[str]
) -> list[Cloud]:
    """Open clouds whose groups are the classes."""
    if by == "none":
        raise OptionError("by", "expected a file, or an array or column beside the points, with a label for each point")
    try:
        clouds = open_clouds(files, key, mask, groups=by, columns=columns)
    except SelectionError as error:
        if error.argument is None or not error.argument.startswith("groups"):
            raise
        raise SelectionError(error.argument.replace("groups", "by", 1), error.reason) from error
    if any(cloud.groups is None for cloud in clouds):
        raise SelectionError("by", "'auto' is the first of three axes or more; got points as rows. Give their labels")
    return clouds


def _measured(clouds: Sequence[Cloud], dependent: Sequence[Cloud] | None) -> GroupedMeasurement:
    points = _read(clouds)
    labels = _labels(clouds, points)
    groups: Any = None
    if dependent is not None and dependent[0].groups is not None:
        groups = [
            cloud.groups.of(0, len(rows)) if cloud.groups else rows
            for cloud, rows in zip(dependent, points, strict=True)
        ]
    masks = [None if cloud.mask is None else cloud.mask.reshape(-1) for cloud in clouds]
    try:
        measured = measure_groups(points, by=labels, mask=masks, groups=groups)
    except IsoScoreError as error:
        raise error.about(clouds[0].source.name if len(clouds) == 1 else "union") from error
    taken = None if dependent is None or dependent[0].groups is None else dependent[0].groups.taken
    return measured if taken is None else replace(measured, whole=replace(measured.whole, groups=taken))


def _labels(clouds: Sequence[Cloud], points: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the label of each point, as words if they are words in one of the files."""
    labels = []
    for cloud, rows in zip(clouds, points, strict=True):
        own = cloud.labels.reshape(-1) if cloud.labels is not None else cloud.groups.of(0, len(rows))  # type: ignore[union-attr]
        if len(own) != len(rows):
            raise SelectionError(cloud.source.name, f"has {len(rows):,} points, but {len(own):,} labels")
        labels.append(own)
    labels = [_decoded(part) if part.dtype.kind == "S" else part for part in labels]
    if len({part.dtype.kind == "U" for part in labels}) > 1:
        labels = [part.astype(str) for part in labels]
    return labels


def _decoded(labels: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(labels, "utf-8", "replace")


def _read(clouds: Sequence[Cloud]) -> list[NDArray[Any]]:
    """Read the points of each cloud; those of one .npy file stay there, and are read as they are wanted."""
    if len(clouds) == 1 and isinstance(mapped := _mapped(clouds[0]), np.memmap):
        return [mapped.reshape(-1, mapped.shape[-1])]
    with reading("reading", (cloud.rows for cloud in clouds)) as advance:
        return [_read_one(cloud, advance) for cloud in clouds]


def _read_one(cloud: Cloud, advance: Callable[[int], None]) -> NDArray[Any]:
    source, blocks, taken = cloud.source, [], 0
    dim = int(source.shape[-1] or 0)
    for block in source.blocks():
        taken += len(block)
        require_memory(
            source.name,
            # Blocks are joined in the end; the others are still to come.
            (2 * max(taken, cloud.rows or 0) - taken) * dim * block.dtype.itemsize,
            "its points are taken class by class, in another order; reading them all",
            ". Save them as .npy, which is read in parts",
        )
        blocks.append(block)
        advance(len(block))
    return np.concatenate(blocks) if blocks else np.empty((0, dim))


def _mapped(cloud: Cloud) -> NDArray[Any] | None:
    """Return the array of a file that is mapped into memory, without reading it."""
    return cloud.source.whole() if Path(cloud.source.name).suffix == ".npy" else None


def _write(measured: GroupedMeasurement, output: Path) -> None:
    """Write a row for each class, with empty cells for what is undefined."""
    rows = [vars(one) for one in measured]
    names = [name for name in rows[0] if name != "group_count" or measured.group_counts is not None]
    with writing_to(output.parent), replacing(output) as partial:
        if output.suffix == ".csv":
            with partial.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, names, extrasaction="ignore")
                table.writeheader()
                table.writerows(rows)
            return
        try:
            from pyarrow import parquet
            from pyarrow import table as arrow_table
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "output", 'a .parquet file needs pyarrow: pip install "isoscore-star[files]". Or give a .csv file'
            ) from error
        parquet.write_table(arrow_table({name: [row[name] for row in rows] for name in names}), partial)
