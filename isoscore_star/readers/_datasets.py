"""Data sets of Hugging Face's `datasets`: folders that save_to_disk wrote, and those on the Hub, which are streamed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from isoscore_star.readers._arrow import END_OF_STREAM
from isoscore_star.readers._arrow_tables import ArrowTable, cells_of, plain_values, source_of
from isoscore_star.readers._errors import FileContentError, SelectionError, reading
from isoscore_star.readers._names import listed, matching
from isoscore_star.readers._table import TableSource

_ALONE = ""  # key of the only split

Splits = Mapping[str, ArrowTable]


def open_saved(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Open a folder that save_to_disk wrote; the key is that of a split, of a column, or both: train/embedding."""
    table, key = _split(path, _saved(path), key)
    return source_of(table, key, columns)


def saved_column(path: Path, name: str | None) -> list[Any]:
    """Return the values of a column, whose name stands after that of the split."""
    table, name = _split(path, _saved(path), name)
    return cells_of(table, name)


def open_hub(path: Path, key: str | None, columns: tuple[str, ...] = ()) -> TableSource:
    """Stream a data set of the Hub: hf://datasets/owner/name, or hf://datasets/owner/name/config."""
    table, key = _split(path, _streamed(path), key)
    return source_of(table, key, columns)


def hub_column(path: Path, name: str | None) -> list[Any]:
    """Return the values of a column, whose name stands after that of the split."""
    table, name = _split(path, _streamed(path), name)
    return cells_of(table, name)


def _split(path: Path, splits: Splits, key: str | None) -> tuple[ArrowTable, str | None]:
    """Return the split that a key begins with, or the only one, and the rest of the key."""
    first, _, rest = (key or "").partition("/")
    found = matching(splits, first) if first else []
    if len(found) == 1 and found != [_ALONE]:
        return splits[found[0]], rest or None
    if len(splits) == 1:
        return next(iter(splits.values())), key
    what = f"has no split {first!r}" if first and not found else "holds several splits"
    raise SelectionError(path, f"{what}; choose one by its key ('train', 'train/embedding'): {listed(splits)}")


def _saved(path: Path) -> Splits:
    with reading(path):
        _require_whole(path)
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            return {str(name): _table(path / str(name), one) for name, one in loaded.items()}
        return {_ALONE: _table(path, loaded)}


def _require_whole(path: Path) -> None:
    """Require that each file ends in the mark of an Arrow stream: one that was cut between batches reads as shorter."""
    for state in sorted(path.rglob("state.json")):
        for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]:
            file = state.parent / entry["filename"]
            with reading(file), file.open("rb") as content:
                content.seek(max(0, file.stat().st_size - len(END_OF_STREAM)))
                if content.read() != END_OF_STREAM:
                    raise FileContentError(file, "lacks the mark that ends an Arrow stream: it was cut")


def _table(path: Path, dataset: Any) -> ArrowTable:
    arrow = dataset.with_format("arrow")
    schema = dataset.data.schema

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        table = arrow.data.table.select([schema.names[position] for position in positions])
        for batch in table.to_batches(max_chunksize=size):
            yield [plain_values(batch.column(i)) for i in range(len(positions))]

    return ArrowTable(path, schema, len(dataset), batches)


def _streamed(path: Path) -> Splits:
    name, config = _parts(path)
    try:
        loaded = datasets.load_dataset(name, config, streaming=True)
    except Exception as error:  # of the network, the Hub, or the data set
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SelectionError(
            str(path),
            f"cannot be had from the Hub: {reason}. Without a network give the folder that save_to_disk wrote, or "
            "Parquet files",
        ) from error
    return {str(split): _stream(path / str(split), one) for split, one in loaded.items()}


def _parts(path: Path) -> tuple[str, str | None]:
    match = re.fullmatch(r"hf:/+datasets/([^/]+/[^/]+|[^/]+)(?:/([^/]+))?", str(path))
    if match is None:
        raise SelectionError(path, "expected hf://datasets/owner/name, or hf://datasets/owner/name/config")
    return match[1], match[2]


def _stream(path: Path, stream: Any) -> ArrowTable:
    arrow = stream.with_format("arrow")
    with reading(path):
        features = stream.features
        schema = next(iter(arrow.iter(batch_size=1))).schema if features is None else features.arrow_schema
        known = (getattr(stream.info, "splits", None) or {}).get(path.name)

    def batches(positions: list[int], size: int) -> Iterator[list[Any]]:
        for table in arrow.iter(batch_size=size):
            for batch in table.combine_chunks().to_batches():
                yield [plain_values(batch.column(schema.names[position])) for position in positions]

    return ArrowTable(path, schema, known.num_examples if known else None, batches)
