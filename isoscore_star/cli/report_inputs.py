"""What ``isoscore-star report`` is given: files of points, the folder of a scan, the folder of a fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoscore_star import IsoScoreError, Measurement
from isoscore_star.cli.errors import OptionError
from isoscore_star.cli.options import is_result
from isoscore_star.cli.printable import note
from isoscore_star.cli.progress import reading, rows_read
from isoscore_star.readers import Cloud, FileContentError, SelectionError, StreamedCloud, open_clouds

RESULTS, SCAN = "results.json", "scan.json"

_SEED = 0  # of the sample for the standard error, so that a file has the same one every time


def read(
    inputs: Sequence[Path],
    *,
    mask: str | None = None,
    groups: str = "auto",
    key: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    by_layer: bool = False,
) -> Any:
    """Read one folder, or files of points, for `isoscore_star.reporting.to_html`.

    Raises
    ------
    SelectionError, FileContentError
        If a folder is neither a scan's nor a fine-tuning's, or a file cannot be read.
    OptionError
        If options of points are given with a folder, or a folder with other inputs.
    """
    folders = [one for one in inputs if is_result(one)]
    if not folders:
        clouds = open_clouds(list(inputs), key or (), mask, groups=groups, by_layer=by_layer, columns=columns or ())
        return _measured(clouds)
    if len(inputs) > 1:
        raise OptionError("inputs", f"{folders[0]} is a folder, which is reported on alone. Give one folder, or files")
    given = {"mask": mask, "key": key, "columns": columns, "by_layer": by_layer, "groups": groups != "auto"}
    for name, value in given.items():
        if value:
            raise OptionError(name, f"it belongs to files of points, and {folders[0]} is a folder. Leave it out")
    return _of_folder(folders[0])


def compared(inputs: Sequence[Path], against: Path, **options: Any) -> Any:
    """Compare two folders of scans, or two files of points of any size.

    Raises
    ------
    OptionError
        If there are more inputs than one, or one is a folder and the other a file.
    """
    if len(inputs) != 1:
        raise OptionError("against", f"it compares two inputs; got {len(inputs)} besides it")
    (before,) = inputs
    if is_result(before) != is_result(against):
        raise OptionError("against", f"expected two folders of scans, or two of points; got {before} and {against}")
    if not is_result(before):
        from isoscore_star.cli.compare import compared_files

        return compared_files(before, against, **options)
    if (before / RESULTS).exists() or (against / RESULTS).exists():
        raise OptionError("against", "a fine-tuning's folder has its runs to compare with each other. Leave it out")
    from isoscore_star import compare

    return compare(read([before], **options), read([against], **options), names=(str(before), str(against)))


def _of_folder(folder: Path) -> Any:
    if (folder / RESULTS).exists():
        return read_runs(folder / RESULTS)
    if (folder / SCAN).exists():
        from isoscore_star import load_scan

        return load_scan(folder)
    raise SelectionError(
        str(folder),
        f"expected the folder of a scan ({SCAN}) or of isoscore-star finetune ({RESULTS}); it holds neither. Of points "
        "give the files",
    )


def read_runs(path: Path) -> dict[str, Any]:
    """Read the results of a fine-tuning.

    Raises
    ------
    FileContentError
        If the file cannot be read, or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = content["runs"]
        for run in runs:
            _require_run(run)
        notes = {"settings": dict(content.get("settings", {})), "versions": dict(content.get("versions", {}))}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise FileContentError(path, f"cannot be read as the results of a fine-tuning ({error})") from error
    if not runs:
        raise FileContentError(path, "holds no finished run yet. Wait for the first one")
    return {**notes, "runs": list(runs)}


def _require_run(run: Mapping[str, Any]) -> None:
    """Require what the report shows of a run, with the types that it takes."""
    number = (int, float, type(None))
    kinds: list[tuple[Any, Any]] = [(run["lam"], (int, float)), (run["seed"], int), (run["metric"]["name"], str)]
    kinds += [(run["metric"]["value"], number)]
    kinds += [(run[name], number) for name in ("isoscore_star", "isoscore_star_unbiased", "seconds_per_step")]
    kinds += [(value, number) for value in run["isoscore_star_by_layer"]] + [(text, str) for text in run["notes"]]
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise TypeError(f"a run has {str(value)[:40]!r} where another kind of value belongs")


def _measured(clouds: Sequence[Cloud]) -> Measurement | dict[str, Measurement]:
    """Measure each cloud and, of several, their union."""
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    rng = np.random.default_rng(_SEED)
    dim = int(clouds[0].source.shape[-1] or 0)
    union, layers = StreamedCloud(dim, rng), {}
    with reading("reading", rows_read(clouds, 2 if len(clouds) > 1 else 1)) as advance:
        for label, cloud in zip(_labels(clouds), clouds, strict=True):
            layer = StreamedCloud(dim, rng)
            layer.take(cloud.source, None if cloud.mask is None else cloud.mask.reshape(-1), advance, cloud.groups)
            layers[label] = _measurement(layer, cloud.source.name, advance)
            union.merge(layer)
        if len(layers) == 1:
            return next(iter(layers.values()))
        return {**layers, "union": _measurement(union, "union", advance)}


def _labels(clouds: Sequence[Cloud]) -> list[str]:
    """Return names for the layers, none of which is "union" or comes twice."""
    plain = [f"layer {cloud.label}" if cloud.label.isdigit() else cloud.label for cloud in clouds]
    taken = len(set(plain)) < len(plain) or "union" in plain
    return [f"{place}: {name}" for place, name in enumerate(plain)] if taken else plain


def _measurement(cloud: StreamedCloud, name: str, advance: Callable[[int], None]) -> Measurement:
    try:
        return cloud.measurement(progress=advance)
    except IsoScoreError as error:
        raise error.about(name) from error
