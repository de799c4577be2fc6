"""``--workers`` and ``--scheduler`` of ``isoscore-star measure``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from isoscore_star import IsoScoreError, Measurement
from isoscore_star.cli.errors import OptionError
from isoscore_star.clusters import Opened, cluster, measure_on_cluster
from isoscore_star.readers import Cloud

Workers = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Processes that read and multiply, each its share of the rows (Dask)."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Of a Dask cluster, as tcp://host:8786, whose workers see the same files."),
]


def require_one_way(workers: int | None, scheduler: str | None, others: dict[str, object]) -> bool:
    """Return whether workers are wanted, which exclude the options of a single process that reads once."""
    if workers is None and scheduler is None:
        return False
    if workers is not None and scheduler is not None:
        raise OptionError("scheduler", "a cluster has its own workers. Leave out --workers")
    for name, value in others.items():
        if value is not None:
            raise OptionError(name, "is for one process, which keeps a state of what it read; leave out the workers")
    return True


def measure_by_workers(
    clouds: Sequence[Cloud],
    opened: Opened,
    ways: tuple[int | None, str | None],
    by_layer: bool,
    unbiased: bool,
    shrinkage: dict[str, Any],
) -> tuple[Measurement, list[tuple[str, Measurement]]]:
    """Measure the union of clouds and, for `by_layer`, each of them, by workers or by those of a scheduler."""
    workers, scheduler = ways
    with cluster(workers, scheduler) as client:
        count = workers or max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

        def measured(some: Sequence[Cloud], first: int) -> Measurement:
            try:
                return measure_on_cluster(some, opened, count, first=first, unbiased=unbiased, **shrinkage)
            except IsoScoreError as error:
                if error.argument not in ("X", None):  # a file, as a worker named it
                    raise
                raise error.about(some[0].source.name if len(some) == 1 else "union") from error

        layers = [(cloud.label, measured([cloud], number)) for number, cloud in enumerate(clouds if by_layer else ())]
        return measured(clouds, 0), layers
