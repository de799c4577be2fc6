"""``isoscore-star transform``: centre embeddings, remove their leading directions, whiten them in part or in full."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from isoscore_star import DegenerateDataError, InvalidValueError, Moments
from isoscore_star.atomic_files import replacing, writing_to
from isoscore_star.cli.errors import OptionError
from isoscore_star.cli.options import POINTS, AsJson, Columns, Key, Mask
from isoscore_star.cli.printable import note, printable
from isoscore_star.cli.progress import reading
from isoscore_star.readers import ArraySource, Cloud, StreamedCloud, open_clouds


def transform(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=f"Points as rows: {POINTS}")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npy", help="Where the new points go.")],
    remove: Annotated[int, typer.Option(help="Leading directions that are removed.")] = 0,
    power: Annotated[float, typer.Option(help="From 0, the spectrum as it is, to 1, whitened.")] = 0.0,
    shrinkage: Annotated[
        float, typer.Option(help="From 0 to 1: how far eigenvalues are drawn to their mean before that.")
    ] = 0.0,
    fit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Points to fit to instead, such as the training data."),
    ] = None,
    mask: Mask = None,
    key: Key = None,
    columns: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Centre the points in a file, remove their leading directions, whiten them (docs/transforms.md says what it does).

    Points that a mask leaves out are transformed, too, but neither fitted to nor counted. With --fit it is of that
    file.
    """
    from isoscore_star.transforms import SpectralTransform, transformed

    if output.suffix != ".npy" or output.is_dir():
        raise OptionError("output", f"expected a file that ends in .npy; got {output}")
    source = _opened(file, mask if fit is None else None, key, columns)
    fitted_to = source if fit is None else _opened(fit, mask, key, columns)
    dim = int(source.source.shape[-1] or 0)
    with reading("transforming", (cloud.rows for cloud in (fitted_to, source))) as advance:
        before = _moments(fitted_to, advance)
        if fit is not None:
            _require_same_dimensions(source.source, fitted_to.source)
        spectral = SpectralTransform(remove, power, shrinkage)
        try:
            matrix = spectral.fit(before).matrix_
        except DegenerateDataError as error:
            raise error.about(fitted_to.source.name) from error
        except InvalidValueError as error:
            raise OptionError(*error.parts) from error
        after = _write(source, output, lambda block, dtype: transformed(block, before.mean, matrix, dtype), advance)
    found = {"output": str(output), "count": after.count, "dim": dim, "fitted_to": before.count}
    found |= {} if fit is not None else {"score_before": before.isoscore()}
    found |= {"score_after": after.isoscore()} if after.count > 1 else {}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    scores = " -> ".join(f"{found[name]:.4g}" for name in ("score_before", "score_after") if name in found)
    print(printable(f"{output}: {after.count:,} points of {dim} dimensions, IsoScore {scores or 'unknown'}"))


def _opened(file: Path, mask: str | None, key: list[str] | None, columns: list[str] | None) -> Cloud:
    clouds = open_clouds([file], key or (), mask, columns=columns or ())
    if len(clouds) > 1:
        names = ", ".join(cloud.label for cloud in clouds)
        raise OptionError("key", f"{file} holds several arrays ({names}). Name one")
    for text in clouds[0].source.notes:
        note(f"{clouds[0].source.name}: {text}")
    return clouds[0]


def _require_same_dimensions(source: ArraySource, fitted_to: ArraySource) -> None:
    """Require as many dimensions and, of two tables, the same columns in the same order."""
    dim, its = source.shape[-1], fitted_to.shape[-1]
    if dim != its:
        raise OptionError("fit", f"expected points of {dim} dimensions, as in {source.name}; got {its}")
    if source.columns and fitted_to.columns and source.columns != fitted_to.columns:
        raise OptionError(
            "fit",
            f"expected the columns of {source.name}, {', '.join(source.columns)}; got {', '.join(fitted_to.columns)}. "
            "Bring them into one order, or name them with --columns",
        )


def _moments(cloud: Cloud, advance: Callable[[int], None]) -> Moments:
    streamed = StreamedCloud(int(cloud.source.shape[-1] or 0), np.random.default_rng(0))
    streamed.take(cloud.source, None if cloud.mask is None else cloud.mask.reshape(-1), advance)
    return streamed.moments


def _write(
    cloud: Cloud, output: Path, transformed: Callable[[NDArray[Any], Any], NDArray[Any]], advance: Callable[[int], None]
) -> Moments:
    """Write the transformed points block by block, and return the moments of those that count."""
    source, mask = cloud.source, None if cloud.mask is None else cloud.mask.reshape(-1)
    leading, dim = source.shape[:-1], int(source.shape[-1] or 0)
    known = (sum(map(len, source.blocks())),) if None in leading else tuple(int(size or 0) for size in leading)
    after, start = Moments(), 0
    dtype: np.dtype[Any] | None = None
    with writing_to(output.parent), replacing(output) as partial, partial.open("wb") as file:
        for block in source.blocks():
            if dtype is None:
                dtype = np.dtype(np.float64 if block.dtype == np.float64 else np.float32)
                header = {"descr": dtype.str, "fortran_order": False, "shape": (*known, dim)}
                np.lib.format.write_array_header_1_0(file, header)
            counted: Any = slice(None) if mask is None else mask[start : start + len(block)]
            bad = np.asarray(~np.isfinite(block).all(axis=1))
            if bad[counted].any():
                bad &= True if mask is None else counted
                name, row = source.place(start + int(np.argmax(bad)))
                raise InvalidValueError(
                    name,
                    "every value has to be finite; got NaN or inf, the first in row "
                    f"{row} (counted from 0). Remove such rows or mask them",
                )
            new = transformed(block, dtype)
            file.write(new.tobytes())
            after.update(new[counted], groups=None)
            start += len(block)
            advance(len(block))
        if dtype is None:
            raise DegenerateDataError(source.name, "it holds no point to transform")
    return after
