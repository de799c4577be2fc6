"""``isoscore-star compare``: how the scores of two clouds differ, with an interval, and how alike the clouds are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from isoscore_star import Comparison, DegenerateDataError, arguments
from isoscore_star.cli.compare_tables import show_comparison
from isoscore_star.cli.errors import OptionError, checking_options
from isoscore_star.cli.options import POINTS, AsJson, Columns, Groups, Key, Mask, is_result
from isoscore_star.cli.printable import note
from isoscore_star.cli.progress import reading
from isoscore_star.comparison import INDEPENDENT, ONE, Stream, compare_layer, pairs_of_names
from isoscore_star.readers import Cloud, StreamedCloud, open_clouds


class _Layer(NamedTuple):
    """The clouds of a layer, which are one union, and what their groups are known by."""

    name: str
    clouds: list[Cloud]
    labels: NDArray[Any] | None


def compare(
    a: Annotated[
        Path,
        typer.Argument(metavar="A", help=f"A folder of a scan, or points as rows: {POINTS}"),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same after a change.")],
    mask: Mask = None,
    mask_b: Annotated[
        str | None,
        typer.Option(metavar="FILE_OR_KEY", help="Of B, if it is another."),
    ] = None,
    groups: Groups = "auto",
    groups_b: Annotated[str | None, typer.Option(metavar="FILE_OR_KEY", help="Of B, if they are others.")] = None,
    key: Key = None,
    key_b: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of B, if it is another; may be repeated.")
    ] = None,
    columns: Columns = None,
    by_layer: Annotated[
        bool, typer.Option("--by-layer", help="Compare each layer: first of 3 or more axes, or key.")
    ] = False,
    paired: Annotated[
        bool | None,
        typer.Option(
            "--paired/--not-paired",
            help="Whether rows, or groups, with the same number are the same in both; by default if there are as many.",
            show_default=False,
        ),
    ] = None,
    directions: Annotated[
        int | None,
        typer.Option(help="Leading directions whose principal angles are taken; by default the effective dimensions."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two scans, or the points of two files of any size: before and after training, float32 and int8."""
    if directions is not None:
        with checking_options():
            arguments.integer("directions", directions, 1)
    of_files: dict[str, Any] = {
        "mask": mask,
        "mask_b": mask_b,
        "groups": groups,
        "groups_b": groups_b,
        "key": key,
        "key_b": key_b,
        "columns": columns,
        "by_layer": by_layer,
    }
    of_both: dict[str, Any] = {"paired": "auto" if paired is None else paired, "directions": directions}
    if is_result(a) or is_result(b):
        comparison = _compared_scans(a, b, of_files, of_both)
    else:
        comparison = compared_files(a, b, **of_files, **of_both)
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2))
    else:
        show_comparison(comparison)


def _compared_scans(a: Path, b: Path, of_files: dict[str, Any], of_both: dict[str, Any]) -> Comparison:
    for folder in (a, b):
        if not is_result(folder):
            raise OptionError("b", f"expected two folders of scans, or two of points; got {a} and {b}")
    for name, value in of_files.items():
        if value and value != "auto":
            raise OptionError(name, "it belongs to files of points; got folders of scans. Leave it out")
    from isoscore_star import compare as compare_scans
    from isoscore_star import load_scan

    return compare_scans(load_scan(a), load_scan(b), names=(str(a), str(b)), **of_both)


def compared_files(
    a: Path,
    b: Path,
    *,
    mask: str | None = None,
    mask_b: str | None = None,
    groups: str = "auto",
    groups_b: str | None = None,
    key: list[str] | None = None,
    key_b: list[str] | None = None,
    columns: list[str] | None = None,
    by_layer: bool = False,
    paired: Any = "auto",
    directions: int | None = None,
) -> Comparison:
    """Compare the points of two files; the parameters are the command's options."""
    ours = _layers(a, key, mask, groups, columns, by_layer)
    its = _layers(b, key_b or key, mask if mask_b is None else mask_b, groups_b or groups, columns, by_layer)
    rng, rows = np.random.default_rng(0), []
    pairs, notes = pairs_of_names([layer.name for layer in ours], [layer.name for layer in its])
    with reading(
        "comparing", [2 * cloud.rows if cloud.rows else cloud.rows for layer in (*ours, *its) for cloud in layer.clouds]
    ) as advance:
        for name, i, j in pairs:
            first, second = (_stream(layer, rng, advance) for layer in (ours[i], its[j]))
            rows.append(compare_layer(name, first, second, paired=paired, directions=directions))
    return Comparison(str(a), str(b), tuple(rows), notes)


def _layers(
    file: Path, key: list[str] | None, mask: str | None, groups: str, columns: list[str] | None, by_layer: bool
) -> list[_Layer]:
    clouds = open_clouds([file], key or (), mask, groups=groups, by_layer=by_layer, columns=columns or ())
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    labels = _labels(clouds)
    return [_Layer(cloud.label, [cloud], labels) for cloud in clouds] if by_layer else [_Layer(ONE, clouds, labels)]


def _labels(clouds: list[Cloud]) -> NDArray[Any] | None:
    """Return the labels of the groups, or the numbers of sequences, those without a point included."""
    labels = [np.unique(cloud.labels) for cloud in clouds if cloud.labels is not None]
    if labels:
        return np.unique(np.concatenate(labels))
    counts = [cloud.groups.count for cloud in clouds if cloud.groups is not None]
    return np.arange(counts[0]) if counts else None


def _stream(layer: _Layer, rng: np.random.Generator, advance: Callable[[int], None]) -> Stream:
    """Read the points of a layer, which are read once more when they are compared."""
    clouds = layer.clouds
    streamed = StreamedCloud(int(clouds[0].source.shape[-1] or 0), rng)
    for cloud in clouds:
        streamed.take(cloud.source, None if cloud.mask is None else cloud.mask.reshape(-1), advance, cloud.groups)
    if streamed.moments.dim is None:
        raise DegenerateDataError(clouds[0].source.name, "it holds no point to compare")
    taken = [cloud.groups.taken for cloud in clouds if cloud.groups is not None]
    masks = [cloud.mask.reshape(-1) for cloud in clouds if cloud.mask is not None]
    return Stream(
        streamed.moments,
        lambda: streamed.blocks(advance),
        np.concatenate(masks) if masks else None,
        groups=taken[0] if taken else INDEPENDENT,
        labels=layer.labels,
        neighbours=None if taken else streamed.neighbours,
    )
