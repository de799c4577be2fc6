"""Lance: folders of a table, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance

from isoscore_star.readers._arrow_tables import ArrowTable, cells_of, plain_values, source_of
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._table import TableSource


def open_lance(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open a .lance folder, in its newest version."""
    return source_of(_table(path), key, columns)


def lance_column(path: Path, name: str | None) -> list[Any]:
    """Return the values of a column of a .lance folder."""
    return cells_of(_table(path), name)


def _table(path: Path) -> ArrowTable:
    with reading(path):
        dataset = lance.dataset(str(path))
        schema, rows = dataset.schema, dataset.count_rows()

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        count, names = 0, [schema.names[position] for position in positions]
        for batch in dataset.scanner(columns=names, batch_size=size, scan_in_order=True).to_batches():
            count += batch.num_rows
            yield [plain_values(batch.column(name)) for name in names]
        if count < rows:
            raise FileContentError(path, f"is damaged: its metadata counts {rows:,} rows, but {count:,} were read")

    return ArrowTable(path, schema, rows, batches)
