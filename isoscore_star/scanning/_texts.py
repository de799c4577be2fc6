"""The texts that a model reads: lists, files, data sets of the hub, or the sentences that come with the package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from isoscore_star import InvalidTypeError, InvalidValueError, MissingDependencyError
from isoscore_star.pretrained import first_line, offline_if_unreachable
from isoscore_star.readers import (
    TEXT_SUFFIXES,
    FileContentError,
    SelectionError,
    read_text_table,
    require_fetched,
    require_file,
)

COLUMNS = ("text", "sentence", "sentence1", "content", "question", "document", "body")
"""Names of a column of texts, the likeliest first."""

EMBEDDED = "the embedded sentences"


class Texts(NamedTuple):
    """Texts that are not empty, and their places among those that were given."""

    name: str
    items: list[str]
    places: list[int]
    notes: list[str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all texts."""
        digest = hashlib.sha256()
        for text in self.items:
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


def texts_of(given: Any = None, column: str | None = None, most: int | None = None) -> Texts:
    """Read texts.

    Parameters
    ----------
    given : str, path, or iterable of str, optional
        A file, the name of a data set on the hub (``"owner/name:configuration:split"``), or the texts themselves. By
        default the 256 English sentences of ``isoscore_star.sample``.
    column : str, optional
        The column of a table or data set that has the texts.
    most : int, optional
        Take the first ones only.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If there is no text, or the file cannot be read.
    """
    if given is None:
        name, found = EMBEDDED, embedded_sentences()
    elif isinstance(given, (str, os.PathLike)):
        name, found = str(given), _read(str(given), column)
    else:
        name, found = "texts", _listed(given)
    return _not_empty(name, found if most is None else found[:most])


def embedded_sentences() -> list[str]:
    """Return the sentences that come with the package."""
    text = resources.files("isoscore_star.sample").joinpath("sentences.txt").read_text(encoding="utf-8")
    return text.splitlines()


def _listed(given: Any) -> list[str]:
    if not isinstance(given, Iterable):
        raise InvalidTypeError("texts", f"expected texts, or a file of them; got {type(given).__name__}")
    found = list(given)
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise InvalidTypeError(
                "texts",
                f"expected strings; got {type(text).__name__} at place {index}. Batches of inputs that are prepared "
                "already go into batches=",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValueError("texts", f"the text at place {index} has {_lone(error)}") from error
    return found


def _lone(error: UnicodeEncodeError) -> str:
    return f"a surrogate alone, U+{ord(error.object[error.start]):X}, which is no character"


def _not_empty(name: str, found: Sequence[str]) -> Texts:
    places = [index for index, text in enumerate(found) if text.strip()]
    if not places:
        what = f"holds {len(found):,} texts, all of them empty"
        if len(found) < 2:
            what = "holds one text, which is empty" if found else "holds no text"
        raise InvalidValueError("texts", f"{name} {what}. Give at least a few dozen sentences")
    left = len(found) - len(places)
    notes = [f"{left:,} of {len(found):,} texts {'is' if left == 1 else 'are'} empty and left out"] if left else []
    return Texts(name, [found[index] for index in places], places, notes)


def _read(name: str, column: str | None) -> list[str]:
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    try:
        exists = path.exists()
    except OSError:  # a name too long for one
        exists = False
    if not exists and _is_name(name):
        return _from_hub(name, column)
    require_file(path)
    if suffix in TEXT_SUFFIXES:
        table = read_text_table(path, known=[column] if column else COLUMNS)
        chosen = _column(str(path), table.columns, column)
        return _strings(path, chosen, table.column(chosen))
    if suffix == ".parquet":
        return _from_parquet(path, column)
    if column is not None:
        raise SelectionError(path, f"is read line by line and has no columns; leave out --text-column {column}")
    return _lines(path)


def _is_name(name: str) -> bool:
    return "/" in name and not name.startswith((".", "/", "~")) and name.count("/") == 1 and not Path(name).suffix


def _lines(path: Path) -> list[str]:
    require_fetched(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FileContentError(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FileContentError(path, f"is not UTF-8 text ({error.reason} at byte {error.start})") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines and not lines[-1] else lines


def _column(name: str, columns: Sequence[str], column: str | None) -> str:
    shown = ", ".join(map(repr, columns[:10]))
    if column is not None:
        if column not in columns:
            raise SelectionError(name, f"has no column {column!r}; its columns are {shown}")
        return column
    if len(columns) == 1:
        return columns[0]
    for known in COLUMNS:
        if known in columns:
            return known
    raise SelectionError(name, f"it is not known which of its columns has the texts: {shown}. Name it: --text-column")


def _strings(path: Any, column: str, values: Iterable[Any]) -> list[str]:
    found = []
    for row, value in enumerate(values, 1):
        if value is None:
            value = ""
        if not isinstance(value, str):
            raise FileContentError(path, f"row {row} has no text in column {column!r}; got {type(value).__name__}")
        try:
            value.encode()
        except UnicodeEncodeError as error:  # JSON may contain a lone surrogate
            raise FileContentError(path, f"row {row} has {_lone(error)}") from error
        found.append(value)
    return found


def _from_parquet(path: Path, column: str | None) -> list[str]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError(
            f'{path} needs pyarrow, which is not installed: pip install "isoscore-star[files]"'
        ) from error
    require_fetched(path)
    try:
        schema = parquet.read_schema(path)
        chosen = _column(str(path), schema.names, column)
        values = parquet.read_table(path, columns=[chosen]).column(chosen).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        if isinstance(error, SelectionError):
            raise
        raise FileContentError(path, f"cannot be read as Parquet: {first_line(error)}") from error
    return _strings(path, chosen, values)


def _from_hub(name: str, column: str | None) -> list[str]:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "texts",
            f"{name} is no file here, and data sets of the hub come through datasets, which is not installed: "
            'pip install "isoscore-star[huggingface]"',
        ) from error
    owner_and_name, *more = name.split(":")
    configuration, split = (*more, None, None)[:2]
    datasets.disable_progress_bars()
    try:
        with offline_if_unreachable(owner_and_name):
            loaded = datasets.load_dataset(owner_and_name, configuration)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InvalidValueError(
            "texts",
            f"{name} is no file here, and neither in the cache of datasets nor to be had from the Hugging Face hub "
            f"({first_line(error)}). Give a file of lines, or .tsv, .csv, .jsonl or .parquet",
        ) from error
    wanted = split or ("train" if "train" in loaded else next(iter(loaded)))
    if wanted not in loaded:
        raise SelectionError(name, f"has no split {wanted!r}; its splits are {', '.join(loaded)}")
    chosen = _column(name, loaded[wanted].column_names, column)
    return _strings(name, chosen, loaded[wanted][chosen])
