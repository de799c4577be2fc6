"""Rows of a model's embedding matrices as points, read from its files without loading the model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, Moments
from isoscore_star.pretrained import first_line
from isoscore_star.readers import FileContentError, require_fetched
from isoscore_star.recorded_arrays import require_safetensors
from isoscore_star.scanning import _files
from isoscore_star.scanning._accumulated import Accumulated, LayerBlock
from isoscore_star.scanning._result import Scan
from isoscore_star.scanning._run import Progress, built, versions

BLOCKS = 20

_ROWS = 2**24
"""Numbers that are read at a time: 64 MiB in float32."""

_KINDS = {
    "input embeddings": (
        "word_embeddings.weight", "word_embedding.weight", "embed_tokens.weight", "wte.weight", "shared.weight",
        "tok_embeddings.weight", "tokens_embed.weight", "embed_in.weight", "token_embedding.weight",
        "embeddings.weight",
    ),
    "output embeddings": (
        "lm_head.weight", "lm_head.decoder.weight", "embed_out.weight", "predictions.decoder.weight",
        "generator_lm_head.weight", "vocab_projector.weight", "output.weight",
    ),
}  # fmt: skip
"""Whole last components of names; the first that a model has is taken."""

_DTYPES = ("F64", "F32", "F16", "BF16")


class _Matrix(NamedTuple):
    kind: str
    key: str
    file: Path
    shape: tuple[int, int]


def scan_weights(model: str | Path, *, output: str | Path | None = None, progress: Progress | None = None) -> Scan:
    """Measure the rows of a model's input and output embedding matrices, without loading the model.

    Parameters
    ----------
    model : str or path
        A folder with ``model.safetensors``, in one file or several, or a name on the Hugging Face hub.
    output : path, optional
        A folder that keeps numbers and moments.
    progress : callable, optional
        Called with the number of blocks of rows read and that of all.

    Returns
    -------
    Scan
        With the matrices as layers, whose rows are independent points. Rows are dealt to blocks in turn, since
        neighbours in a vocabulary resemble each other.

    Raises
    ------
    InvalidValueError
        If there is no such file, no embedding matrix in it, or one of packed integers.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> from isoscore_star.scanning import scan_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    ...     save_file({"model.embed_tokens.weight": rows}, f"{folder}/model.safetensors")
    ...     scan = scan_weights(folder)
    >>> scan.layers[0].name, scan.layers[0].measurement.count
    ('input embeddings', 500)
    """
    started = time.monotonic()
    require_safetensors(_files.KIND.what)
    folder = _folder(str(model))
    matrices = list(_matrices(folder, str(model)))
    settings = {
        "model": str(model),
        "texts": "weights",
        "fingerprint": {one.key: [one.file.name, one.file.stat().st_size, list(one.shape)] for one in matrices},
    }
    kept = None if output is None else _files.Folder(Path(output), settings)
    steps = [(one, start) for one in matrices for start in range(0, one.shape[0], _step(one))]
    found, bad = Accumulated(BLOCKS), dict[str, int]()
    found.names = [one.kind for one in matrices]
    for done, (one, start) in enumerate(steps, 1):
        rows = _rows(one, start, min(start + _step(one), one.shape[0]))
        finite = np.isfinite(rows).all(axis=1)
        bad[one.kind] = bad.get(one.kind, 0) + int((~finite).sum())
        for block in range(BLOCKS):
            mine = (np.arange(start, start + len(rows)) % BLOCKS == block) & finite
            if mine.any():
                cell = found.blocks.setdefault(block, {}).setdefault(one.kind, LayerBlock())
                cell.parts.setdefault("rest", Moments()).update(rows[mine], groups=None)
        if progress is not None:
            progress(done, len(steps))
    for one in matrices:
        if one.shape[0] - bad[one.kind] < 2:
            raise InvalidValueError("model", f"{one.key} has fewer than two rows without NaN or inf, so no score")
    notes = [f"{one.kind}: {one.key} of {one.file.name}, rows as independent points" for one in matrices]
    notes += [
        f"{count:,} {'row' if count == 1 else 'rows'} of the {kind} with NaN or inf left out"
        for kind, count in bad.items()
        if count
    ]
    record = {
        "names": found.names,
        "blocks": BLOCKS,
        "notes": notes,
        "places": {},
        "provenance": {
            **settings,
            "sequences": sum(one.shape[0] for one in matrices),
            "tokens": sum(one.shape[0] for one in matrices),
            "seconds": round(time.monotonic() - started, 3),
            "versions": versions(),
        },
    }
    arrays = found.to_arrays()
    result = built(record, arrays, settings)
    if kept is not None:
        kept.result()
        kept.write_result(record, arrays, result.to_dict())
    return result


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith((".", "~", "/")) or name.count("/") > 1:
        raise InvalidValueError("model", f"there is no folder {name}")
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.safetensors.index.json", "config.json"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=10))
    except Exception as error:  # of an unreachable server, which has many names
        raise InvalidValueError(
            "model",
            f"{name!r} is no folder here, and its weights are neither in the cache nor to be had from the Hugging Face "
            f"hub ({first_line(error)})",
        ) from error


def _matrices(folder: Path, name: str) -> Iterator[_Matrix]:
    from safetensors import SafetensorError, safe_open

    known: dict[str, tuple[Path, tuple[int, ...], str]] = {}
    for file in _weight_files(folder, name):
        require_fetched(file)
        try:
            with safe_open(file, "np") as weights:
                for key in weights.keys():  # noqa: SIM118
                    tensor = weights.get_slice(key)
                    known[key] = (file, tuple(tensor.get_shape()), str(tensor.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise FileContentError(file, f"holds no whole weights ({error})") from error
    found = 0
    for kind, ends in _KINDS.items():
        named = ([key for key in known if _ends_with(key, end) and len(known[key][1]) == 2] for end in ends)
        keys = next(filter(None, named), None)
        if keys:
            # Of the parts of a model, such as encoder and decoder, the outermost.
            key = min(keys, key=lambda one: (one.count("."), one))
            found += 1
            yield _required(kind, key, *known[key])
    if not found:
        names = ", ".join(sorted(known)[:5])
        raise InvalidValueError(
            "model", f"{name} has no embedding matrix of a known name; its weights are {names}, ..."
        )


def _ends_with(key: str, end: str) -> bool:
    """Return whether a name ends with whole components, outside of numbered layers.

    A suffix alone would take ``position_embeddings.weight`` for ``embeddings.weight``, and the output of an MLP for
    that of the model.
    """
    return f".{key}".endswith(f".{end}") and not any(part.isdigit() for part in key.split("."))


def _required(kind: str, key: str, file: Path, shape: tuple[int, ...], dtype: str) -> _Matrix:
    rows, columns = shape
    if dtype not in _DTYPES:
        raise InvalidValueError(
            "model",
            f"{key} is of dtype {dtype}, whose numbers are packed or scaled and not read here. Give the model's "
            "weights in floating point, before they were quantised",
        )
    if rows < 2 or not columns:
        raise InvalidValueError("model", f"{key} is of shape ({rows}, {columns}), and no score of it is defined")
    return _Matrix(kind, key, file, (rows, columns))


def _weight_files(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileContentError(index, "is no index of weights") from error
        files = [folder / str(file) for file in named]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InvalidValueError("model", f"{name} lacks {', '.join(missing[:3])}, which its index names")
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InvalidValueError("model", f"{name} holds no .safetensors file, which --weights reads")
    return files


def _step(matrix: _Matrix) -> int:
    return max(BLOCKS, _ROWS // matrix.shape[1])


def _rows(matrix: _Matrix, start: int, end: int) -> NDArray[Any]:
    """Return rows in float32 or better; of bfloat16, which NumPy lacks, the upper half of a float32."""
    from safetensors import safe_open

    try:
        with safe_open(matrix.file, "np") as weights:
            rows = np.asarray(weights.get_slice(matrix.key)[start:end])
    except (TypeError, ValueError, AttributeError):
        rows = _raw_rows(matrix, start, end)
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)


def _raw_rows(matrix: _Matrix, start: int, end: int) -> NDArray[Any]:
    with matrix.file.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[matrix.key]
        if entry["dtype"] != "BF16":
            raise InvalidValueError("model", f"{matrix.key} is of dtype {entry['dtype']}, which is not read here")
        file.seek(8 + size + entry["data_offsets"][0] + 2 * start * matrix.shape[1])
        halves = np.frombuffer(file.read(2 * (end - start) * matrix.shape[1]), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(end - start, matrix.shape[1])
