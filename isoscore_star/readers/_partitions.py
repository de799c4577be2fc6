"""Folders whose names are columns of the tables in them: year=2024/month=5/part-0.parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from isoscore_star.readers._errors import SelectionError, reading
from isoscore_star.readers._names import listed

Partition = Mapping[str, int | str | None]


def partitions_of(folder: Path, files: Sequence[Path]) -> list[Partition]:
    """Return, for each file, the names and values in the names of its folders; integers where all are."""
    import pyarrow as pa
    from pyarrow import dataset

    parents = [file.relative_to(folder).parent for file in files]
    names = {tuple(part.partition("=")[0] for part in parent.parts if "=" in part): parent for parent in parents}
    if len(names) > 1:
        both = [str(folder / parent) for parent in list(names.values())[:2]]
        raise SelectionError(folder, f"its folders are partitions of different kinds: {listed(both)}")
    columns = next(iter(names))
    with reading(folder):
        text = dataset.HivePartitioning(pa.schema([(name, pa.string()) for name in columns]))
        found = [dataset.get_partition_keys(text.parse(f"{parent.as_posix()}/")) for parent in parents]
    for name in columns:
        values = [keys.get(name) for keys in found]
        if all(value is None or value.isdecimal() for value in values):
            for keys in found:
                keys[name] = None if keys.get(name) is None else int(keys[name])
    return found
