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
from isoscore_star.cli.errors import OptionError, checking_options
from isoscore_star.cli.measure_tables import show_measurements
from isoscore_star.cli.options import AsJson, Columns, Files, Groups, Key, Mask
from isoscore_star.cli.printable import note
from isoscore_star.cli.progress import reading, rows_read
from isoscore_star.readers import Cloud, StreamedCloud, open_array, open_clouds

_SEED = 0  # of the sample for the standard error, so that a file has the same one every time

_Layer = tuple[str, Measurement]


class Estimator(str, Enum):
    """Which score comes first."""

    shrinkage = "shrinkage"
    unbiased = "unbiased"


def measure(
    files: Files,
    zeta: Annotated[float, typer.Option(help="Weight of the shrinkage covariance, from 0 to 1.")] = 0.0,
    shrinkage_cov: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[:KEY]", help="Its (d, d) matrix, of many more points; KEY if the file holds several arrays."
        ),
    ] = None,
    estimator: Annotated[
        Estimator | None, typer.Option(help="Which score comes first; by default the unbiased one of groups.")
    ] = None,
    mask: Mask = None,
    groups: Groups = "auto",
    key: Key = None,
    columns: Columns = None,
    by_layer: Annotated[
        bool,
        typer.Option("--by-layer", help="Also measure each layer: first of 3 or more axes, or file, or key."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how evenly the points in files, of any size, use their dimensions (IsoScore*)."""
    zeta = _checked_zeta(zeta, shrinkage_cov, estimator)
    clouds = open_clouds(files, key or (), mask, groups=groups, by_layer=by_layer, columns=columns or ())
    for text in dict.fromkeys(f"{cloud.source.name}: {text}" for cloud in clouds for text in cloud.source.notes):
        note(text)
    names = next((cloud.source.columns for cloud in clouds if cloud.source.columns), ())
    dim = int(clouds[0].source.shape[-1] or 0)
    matrix = None if shrinkage_cov is None else _read_matrix(shrinkage_cov, dim)
    union, layers = _measure(clouds, dim, by_layer, estimator, {"shrinkage_cov": matrix, "zeta": zeta})
    first = estimator or (Estimator.shrinkage if union.group_count is None else Estimator.unbiased)
    if as_json:
        content: dict[str, Any] = {"files": list(map(str, files)), "zeta": zeta, "estimator": first.value}
        if names:
            content["columns"] = list(names)
        content["union"] = _with_columns(union, names)
        if by_layer:
            content["layers"] = [{"layer": label} | _with_columns(layer, names) for label, layer in layers]
        print(json.dumps(content, indent=2))
    else:
        show_measurements(union, layers, zeta, first is Estimator.unbiased, names)


def _checked_zeta(zeta: float, shrinkage_cov: str | None, estimator: Estimator | None) -> float:
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


def _read_matrix(name: str, dim: int) -> NDArray[np.float64]:
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
    advance: Callable[[int], None],
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
