"""``isoscore-star measure``: how evenly the points in files use their dimensions."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from isoscore_star import IsoScoreError, Measurement, arguments
from isoscore_star.byte_sizes import bytes_of
from isoscore_star.cli.errors import OptionError, checking_options
from isoscore_star.cli.groupwise import measure_by
from isoscore_star.cli.measure_tables import show_measurements
from isoscore_star.cli.options import AsJson, By, ByOutput, Columns, Files, Groups, Key, Mask
from isoscore_star.cli.printable import note
from isoscore_star.cli.progress import reading, rows_read
from isoscore_star.cli.workers import Scheduler, Workers, measure_by_workers, require_one_way
from isoscore_star.clusters import opened_by
from isoscore_star.parts import Part, identity, plan, read_in_parts
from isoscore_star.readers import Cloud, StreamedCloud, open_array, open_clouds

_SEED = 0  # of the sample for the standard error, so that a file has the same one every time

_Layer = tuple[str, Measurement]


class Estimator(str, Enum):
    """Which score comes first."""

    shrinkage = "shrinkage"
    unbiased = "unbiased"


ZetaOption = Annotated[float, typer.Option(help="Weight of the shrinkage covariance, from 0 to 1.")]
ShrinkageOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:KEY]", help="Its (d, d) matrix, of many more points; KEY if the file holds several arrays."
    ),
]
EstimatorOption = Annotated[
    Estimator | None, typer.Option(help="Which score comes first; by default the unbiased one of groups.")
]


def measure(
    files: Files,
    zeta: ZetaOption = 0.0,
    shrinkage_cov: ShrinkageOption = None,
    estimator: EstimatorOption = None,
    mask: Mask = None,
    groups: Groups = "auto",
    key: Key = None,
    columns: Columns = None,
    by_layer: Annotated[
        bool,
        typer.Option("--by-layer", help="Also measure each layer: first of 3 or more axes, or file, or key."),
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Read once, and keep the state there: after a kill the same command goes on.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Write it no more often; 0: after each block of points.")
    ] = 30.0,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Read once, with moments of at most this, such as 2GB: fewer blocks, or a sketch."
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    by: By = None,
    output: ByOutput = None,
    as_json: AsJson = False,
) -> None:
    """Measure how evenly the points in files, of any size, use their dimensions (IsoScore*)."""
    if by is not None:
        others = {"zeta": zeta > 0, "shrinkage_cov": shrinkage_cov is not None, "estimator": estimator is not None}
        others |= {"by_layer": by_layer, "checkpoint": checkpoint is not None, "memory": memory is not None}
        others |= {"workers": workers is not None, "scheduler": scheduler is not None}
        measure_by(files, by, mask, groups, key or (), columns or (), output, as_json, others)
        return
    if output is not None:
        raise OptionError("output", "it is the table of the classes of --by, which was not given. Leave it out")
    zeta = checked_zeta(zeta, shrinkage_cov, estimator)
    on_cluster = require_one_way(workers, scheduler, {"checkpoint": checkpoint, "memory": memory})
    clouds = open_clouds(files, key or (), mask, groups=groups, by_layer=by_layer, columns=columns or ())
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    names = next((cloud.source.columns for cloud in clouds if cloud.source.columns), ())
    dim = int(clouds[0].source.shape[-1] or 0)
    matrix = None if shrinkage_cov is None else read_matrix(shrinkage_cov, dim)
    shrinkage = {"shrinkage_cov": matrix, "zeta": zeta}
    if on_cluster:
        opened = opened_by(files, keys=key or (), by_layer=by_layer, columns=columns or ())
        unbiased = estimator is Estimator.unbiased
        union, layers = measure_by_workers(clouds, opened, (workers, scheduler), by_layer, unbiased, shrinkage)
    elif checkpoint is None and memory is None:
        union, layers = _measure(clouds, dim, by_layer, estimator, shrinkage)
    else:
        beside = [name for name in (mask, groups) if name is not None and name not in ("auto", "none")]
        settings = {
            "files": identity(files),
            "beside": identity(beside),
            "keys": key,
            "columns": columns,
            "mask": mask,
            "groups": groups,
            "by_layer": by_layer,
        }
        part = read_once(
            settings,
            clouds,
            [cloud.label for cloud in clouds] if by_layer else [""],
            memory,
            checkpoint,
            checkpoint_every,
        )
        union, layers = of_part(part, estimator, shrinkage)
    show(union, layers, names, estimator, zeta, as_json, {"files": list(map(str, files))})


def show(
    union: Measurement,
    layers: list[_Layer],
    names: tuple[str, ...],
    estimator: Estimator | None,
    zeta: float,
    as_json: bool,
    inputs: dict[str, Any],
) -> None:
    """Print a union and its layers, if there are any."""
    first = estimator or (Estimator.shrinkage if union.group_count is None else Estimator.unbiased)
    if as_json:
        content: dict[str, Any] = {**inputs, "zeta": zeta, "estimator": first.value}
        if names:
            content["columns"] = list(names)
        content["union"] = _with_columns(union, names)
        if layers:
            content["layers"] = [{"layer": label} | _with_columns(layer, names) for label, layer in layers]
        print(json.dumps(content, indent=2))
    else:
        show_measurements(union, layers, zeta, first is Estimator.unbiased, names)


def read_once(
    settings: dict[str, Any],
    clouds: list[Cloud],
    labels: list[str],
    memory: str | None,
    checkpoint: Path | None,
    seconds: float,
) -> Part:
    """Read clouds in one pass, in a memory budget, with a checkpoint if there is one."""
    dim, grouped = int(clouds[0].source.shape[-1] or 0), clouds[0].groups is not None
    chosen = plan(dim, len(labels) + (len(labels) > 1), grouped, bytes_of(memory))
    if chosen.note:
        note(chosen.note)
    columns = next((cloud.source.columns for cloud in clouds if cloud.source.columns), ())
    part = Part({**settings, "memory": memory}, dim, labels, chosen, list(columns))
    with reading("reading", rows_read(clouds, 0)) as advance:
        return read_in_parts(part, clouds, checkpoint, seconds=seconds, progress=advance, failed=_told, resumed=note)


def _told(error: IsoScoreError) -> None:
    note(f"{error}. The measurement goes on without it")


def of_part(part: Part, estimator: Estimator | None, shrinkage: dict[str, Any]) -> tuple[Measurement, list[_Layer]]:
    """Measure a part's union and its layers."""
    layers = [
        (label, _measurement(cloud, label, estimator, shrinkage))
        for label, cloud in zip(part.labels, part.clouds, strict=True)
        if label
    ]
    return _measurement(part.union(), "union", estimator, shrinkage), layers


def checked_zeta(zeta: float, shrinkage_cov: str | None, estimator: Estimator | None) -> float:
    """Require a weight from 0 to 1, with a matrix if the score needs it."""
    with checking_options():
        arguments.number("zeta", zeta, 0, 1)
    if zeta > 0 and shrinkage_cov is None:
        if estimator is not Estimator.unbiased:
            raise OptionError(
                "shrinkage_cov",
                f"--zeta {zeta:g} mixes in a shrinkage covariance, but none was given. Give a file with one (the "
                "covariance of many more points), or --zeta 0, or --estimator unbiased, which needs none",
            )
        note("the unbiased score needs no shrinkage, so zeta is not used")
        return 0.0
    return zeta


def read_matrix(name: str, dim: int) -> NDArray[np.float64]:
    """Read a shrinkage covariance."""
    file, _, key = name.rpartition(":")
    has_key = bool(Path(file).suffix) and not Path(name).exists()
    source = open_array(file, key) if has_key else open_array(name)
    matrix = source.whole()
    try:
        return arguments.shrinkage_cov(matrix, dim)
    except IsoScoreError as error:
        raise type(error)("shrinkage_cov", "; ".join([f"{name}: {error.reason}", *source.notes])) from error


def _measure(
    clouds: list[Cloud], dim: int, by_layer: bool, estimator: Estimator | None, shrinkage: dict[str, Any]
) -> tuple[Measurement, list[_Layer]]:
    """Measure the union and, for `by_layer`, each cloud."""
    rng = np.random.default_rng(_SEED)
    union, layers = StreamedCloud(dim, rng), []
    with reading("reading", rows_read(clouds, 2 if by_layer else 1)) as advance:
        for cloud in clouds:
            mask = None if cloud.mask is None else cloud.mask.reshape(-1)
            if by_layer:
                layer = StreamedCloud(dim, rng)
                layer.take(cloud.source, mask, advance, cloud.groups)
                found = _measurement(layer, cloud.source.name, estimator, shrinkage, advance)
                layers.append((cloud.label, found))
                union.merge(layer)
            else:
                union.take(cloud.source, mask, advance, cloud.groups)
        name = clouds[0].source.name if len(clouds) == 1 else "union"
        return _measurement(union, name, estimator, shrinkage, advance), layers


def _measurement(
    cloud: StreamedCloud,
    name: str,
    estimator: Estimator | None,
    shrinkage: dict[str, Any],
    advance: Callable[[int], None] = lambda rows: None,
) -> Measurement:
    try:
        if estimator is Estimator.unbiased:
            cloud.moments.isoscore_unbiased()  # raises with the reason where a Measurement has only None
        return cloud.measurement(**shrinkage, progress=advance)
    except IsoScoreError as error:
        raise error.about(name) from error


def _with_columns(measurement: Measurement, names: tuple[str, ...]) -> dict[str, Any]:
    """Return a measurement as plain numbers, its outlier dimensions with their columns."""
    plain = measurement.to_dict()
    if len(names) == measurement.dim:
        for outlier in plain["outlier_dimensions"]:
            outlier["column"] = names[outlier["dimension"]]
    return plain
