"""``isoscore-star merge``: parts of a measurement, from anywhere, as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isoscore_star.cli.errors import OptionError
from isoscore_star.cli.measure import (
    EstimatorOption,
    ShrinkageOption,
    ZetaOption,
    checked_zeta,
    of_part,
    read_matrix,
    show,
)
from isoscore_star.cli.options import AsJson
from isoscore_star.parts import merged, read_part


def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(
            metavar="PART...",
            help="Files that isoscore-star measure --checkpoint wrote, of different points, read to their end.",
            exists=True,
            dir_okay=False,
        ),
    ],
    zeta: ZetaOption = 0.0,
    shrinkage_cov: ShrinkageOption = None,
    estimator: EstimatorOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the whole as a part of its own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge parts of a measurement: the points of all, each group of which lies in one part."""
    zeta = checked_zeta(zeta, shrinkage_cov, estimator)
    if output is not None and output.resolve() in [path.resolve() for path in parts]:
        raise OptionError("output", f"{output} is one of the parts. Choose another file")
    whole = merged([read_part(path) for path in parts], [str(path) for path in parts])
    matrix = None if shrinkage_cov is None else read_matrix(shrinkage_cov, whole.dim)
    union, layers = of_part(whole, estimator, {"shrinkage_cov": matrix, "zeta": zeta})
    if output is not None:
        whole.write(output, "output")
    show(union, layers, tuple(whole.columns), estimator, zeta, as_json, {"parts": [str(path) for path in parts]})
