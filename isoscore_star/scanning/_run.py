"""`scan`: run a model over texts once, and tell what state each layer is in."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.byte_sizes import bytes_of
from isoscore_star.pretrained import first_line
from isoscore_star.readers import FileContentError
from isoscore_star.recorded_arrays import Recorded
from isoscore_star.scanning import _files
from isoscore_star.scanning._accumulated import Accumulated, Arrays
from isoscore_star.scanning._batches import Batch, Source
from isoscore_star.scanning._measured import embeddings_of, layers_of
from isoscore_star.scanning._memory import plan
from isoscore_star.scanning._ranks import Ranks, ranks
from isoscore_star.scanning._result import Scan
from isoscore_star.scanning.sources import Options, open_source

Progress = Callable[[int, int | None], None]

_LEAST_BLOCKS = 8

_PACKAGES = ("isoscore-star", "numpy", "torch", "transformers", "sentence-transformers", "keras", "tokenizers")


def scan(
    model: Any,
    texts: Any = None,
    *,
    tokenizer: Any = None,
    images: Any = None,
    batches: Iterable[Any] | None = None,
    mask: Any = None,
    layers: Sequence[int | str] | None = None,
    batch_size: int = 16,
    max_tokens: int = 128,
    max_texts: int | None = None,
    text_column: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    gguf_file: str | None = None,
    blocks: int = 20,
    sketch: int | None = None,
    memory: int | str | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    seconds_between_states: float = 20.0,
) -> Scan:
    """Run a model over texts once, and measure every layer's token states.

    Moments of the states are kept, never the states: of a sequence's first token, of special tokens and of all others
    apart, so that the scores with and without them come from one pass.

    Parameters
    ----------
    model : str, path or model
        A name on the Hugging Face hub or a folder: of a model of transformers (encoder, decoder or both, or a vision
        encoder with `images`; a ``.gguf`` file too), of sentence-transformers, or an adapter of PEFT. Or a loaded model
        of transformers with `tokenizer`, a SentenceTransformer; any torch module, functional Keras model or bound
        module of flax.linen with `batches`.
    texts : str, path or iterable of str, optional
        Texts, a file of them (lines, ``.tsv``, ``.csv``, ``.jsonl``, ``.parquet``) or a data set of the hub
        (``"owner/name:configuration:split"``). By default 256 English sentences that come with the package.
    tokenizer : PreTrainedTokenizer, optional
        Of a loaded model.
    images : path, optional
        A folder of images, for a vision encoder.
    batches : iterable, optional
        Batches of inputs that are prepared already; a sequence is an index of their first axis. It has to give the same
        batches again for an interrupted scan to go on.
    mask : str, callable or False, optional
        Which states of `batches` are points; see `isoscore_star.backends.torch.StateMasks`. Of a Keras model a function
        that returns a batch's mask.
    layers : sequence of int or str, optional
        Places (0 is the embedding layer, negative ones count from the end) or patterns of names; all by default. Of a
        torch module or Keras model the names of modules or layers, in which ``*`` matches.
    batch_size : int, default 16
        At most as many texts at a time; fewer where otherwise some blocks stayed empty.
    max_tokens : int, default 128
        Where longer texts are cut.
    max_texts : int, optional
        Take the first ones only.
    text_column : str, optional
        Column of a table that has the texts.
    dtype : {"float32", "float16", "bfloat16", "float64", "auto"}, optional
        Of the model; by default float32 on a CPU and its own elsewhere. States are summed in float32 or better.
    device : str, optional
        By default a GPU, if there is one.
    gguf_file : str, optional
        Which file of the folder.
    blocks : int, default 20
        Blocks of sequences, of which the standard error leaves out one after the other; fewer take less memory, fewer
        than eight give no error.
    sketch : int, optional
        Columns of a sketch in place of d² numbers a layer, whose own error is `Measurement.sketch_error`; by default
        one is taken where exact moments do not fit into `memory`.
    memory : int or str, optional
        Bytes for the moments, as in ``"8GB"``; half of what is free by default.
    output : path, optional
        A folder that keeps the moments; the same call goes on there after an interruption.
    progress : callable, optional
        Called with the number of batches done and that of all, or None.
    seconds_between_states : float, default 20.0
        Write the state of an unfinished scan no more often, and so that it takes a tenth of the time at most; 0 writes
        one after every batch.

    Returns
    -------
    Scan
        Of several processes, as started by ``torchrun``, only the first has layers in it.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If the model or the texts cannot be had, memory does not suffice, the model returns NaN, or `output` holds
        another scan.
    MissingDependencyError
        If a package that the model needs is not installed.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(50, 16), torch.nn.Linear(16, 16), torch.nn.Tanh())
    >>> batches = torch.arange(0, 960).reshape(12, 8, 10) % 47
    >>> scan = iso.scan(model, batches=batches, layers=["0", "1", "2"])
    >>> [layer.name for layer in scan.layers], scan.union.measurement.count
    (['0', '1', '2'], 2880)
    """
    started = time.monotonic()
    _require_at_least(1, batch_size=batch_size, max_tokens=max_tokens, blocks=blocks, max_texts=max_texts)
    options = Options(
        batch_size=batch_size,
        max_tokens=max_tokens,
        layers=None if layers is None else tuple(layers),
        dtype=dtype,
        device=device,
        gguf_file=gguf_file,
        text_column=text_column,
        max_texts=max_texts,
        blocks=blocks,
        sketch=sketch,
    )
    budget = bytes_of(memory)
    source = open_source(model, texts, options, tokenizer=tokenizer, images=images, batches=batches, mask=mask)
    own = ranks()
    settings = _settings(source, options, own)
    folder = None
    if output is not None:
        folder = _files.Folder(Path(output), settings, own.rank, own.size, seconds_between_states)
        finished = folder.result()
        if finished is not None:
            return _restored(Path(output), finished)
    run = _Run(source, own, folder, options, budget)
    noticed: list[str] = []
    try:
        found = run.accumulate(progress).settle()
    finally:
        noticed += source.finished()
    notes = [*source.notes, *run.notes, *noticed]
    shares = own.gathered((found.to_arrays(), found.names, found.tokens, run.sequences))
    if own.rank:
        provenance = {**settings, "rank": own.rank}
        return Scan(settings["model"], (), None, None, ("the first process has the result",), provenance)
    sequences = sum(share[3] for share in shares)
    whole = found
    for arrays, names, tokens, _ in shares[1:]:
        other = Accumulated.from_arrays(arrays, found.count, names)
        other.tokens = tokens
        whole.add(other)
    if not whole.blocks:
        raise InvalidValueError("batches", "expected at least one batch; got none")
    if sequences < 4 * _LEAST_BLOCKS:
        sequences_are = "1 sequence is" if sequences == 1 else f"{sequences} sequences are"
        notes.append(f"{sequences_are} few: give some hundreds for small intervals")
    if len(whole.blocks) < _LEAST_BLOCKS:
        count = len(whole.blocks)
        blocks_are = "1 block of sequences is" if count == 1 else f"{count} blocks of sequences are"
        notes.append(f"{blocks_are} too few for standard errors, which need 8")
    record = {
        "names": whole.names,
        "blocks": whole.count,
        "notes": notes,
        "places": {str(n): source.place_of(n) for n in _long_sequences(whole) if source.place_of(n) != n},
        "provenance": {
            **settings,
            "sequences": sequences,
            "tokens": max(whole.tokens.values()),
            "tokens_by_layer": whole.tokens,
            "seconds": round(time.monotonic() - started, 3),
            "versions": versions(),
        },
    }
    arrays = whole.to_arrays()
    result = built(record, arrays, settings)
    if folder is not None:
        folder.write_result(record, arrays, result.to_dict())
    return result


def load_scan(folder: str | Path) -> Scan:
    """Read a scan from the folder that `scan` or `Scan.save` wrote.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    Scan
        With the same numbers.

    Raises
    ------
    InvalidValueError
        If the folder holds no finished scan, or its file is damaged.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> scan = iso.load_scan("scan-of-my-model")  # doctest: +SKIP
    """
    path = _files.require_folder(Path(folder).expanduser())
    return _restored(path, _files.read(path))


class _Run:
    """Takes in batches, and goes on where a state says."""

    def __init__(
        self, source: Source, own: Ranks, folder: _files.Folder | None, options: Options, budget: int | None
    ) -> None:
        self._source, self._own, self._folder = source, own, folder
        self._options, self._budget = options, budget
        self.notes: list[str] = []
        self.sequences = 0
        self._found: Accumulated | None = None
        self._next = 0
        self._seen_before: list[str] = []

    def accumulate(self, progress: Progress | None) -> Accumulated:
        """Return the moments of this process's batches."""
        state = None if self._folder is None else self._folder.state()
        if state is not None:
            self._restore(state)
        resumed, number = self._next, -1
        with suppress(StopIteration):
            generator = iter(self._source.batches(self._is_wanted))
            while True:
                number, batch = self._advised(lambda: next(generator))
                self._require_seen(number)
                if batch is not None:
                    self._take(number, batch)
                if progress is not None:
                    progress(number + 1, self._source.count)
        if number + 1 < resumed:
            raise self._other_batches(f"there are {number + 1}, and the unfinished scan has read {resumed}")
        return self._found or Accumulated(self._options.blocks)

    def _require_seen(self, number: int) -> None:
        """Require that a batch is the one that the unfinished scan has read."""
        if number < len(self._seen_before) and self._source.seen[number] != self._seen_before[number]:
            raise self._other_batches(f"batch {number} differs from the one that the unfinished scan has read")

    def _other_batches(self, what: str) -> InvalidValueError:
        folder = "" if self._folder is None else f" in {self._folder.path}"
        return InvalidValueError(
            "batches", f"{what}{folder}. Give the same batches in the same order, or another folder"
        )

    def _is_wanted(self, number: int) -> bool:
        if number < self._next:
            return False
        return self._found is None or self._own.owns(number % self._found.count)

    def _take(self, number: int, batch: Batch) -> None:
        if not batch.sequences:
            return
        if self._found is None:
            self._found = self._planned(batch)
        if self._own.owns(number % self._found.count):
            self._advised(lambda: self._found.take(number, batch) if self._found else None)
            self.sequences += batch.sequences
        self._next = number + 1
        if self._folder is not None and self._folder.pace.is_due():
            self._folder.write_state(self._record(), self._found.to_arrays())

    def _planned(self, batch: Batch) -> Accumulated:
        tokens = self._source.estimated_tokens()
        chosen = None
        if self._own.rank == 0:
            chosen = plan(batch, self._options.blocks, tokens, self._budget, sketch=self._options.sketch)
        blocks, notes, sketch = self._own.agreed(chosen and (chosen.blocks, chosen.notes, chosen.sketch))
        if self._own.size > blocks:
            idle = self._own.size - blocks
            of_blocks = f"{blocks} block{'s' * (blocks != 1)}"
            notes = [
                *notes,
                f"{self._own.size} processes for {of_blocks}: {idle} {'has' if idle == 1 else 'have'} no work",
            ]
        self.notes += notes
        device = getattr(batch.layers[0].states, "device", None) if chosen is None else chosen.device
        on_host = getattr(device, "type", "cpu") == "cpu" or sketch is not None
        return Accumulated(blocks, None if on_host else device, sketch)

    def _record(self) -> dict[str, Any]:
        found = self._found or Accumulated(self._options.blocks)
        return {
            "names": found.names,
            "blocks": found.count,
            "on_device": found.device is not None,
            "sketch": found.sketch,
            "tokens": found.tokens,
            "notes": self.notes,
            "next": self._next,
            "sequences": self.sequences,
            "noticed": self._source.noticed,
            "seen": self._source.seen[: self._next],
        }

    def _restore(self, state: Recorded) -> None:
        record = state.record
        device = self._options.place() if record["on_device"] else None
        self._found = Accumulated.from_arrays(state.arrays, record["blocks"], record["names"], device, record["sketch"])
        self._found.tokens = dict(record["tokens"])
        self.notes, self._next, self.sequences = list(record["notes"]), record["next"], record["sequences"]
        self._source.noticed.update(record["noticed"])
        self._seen_before = list(record["seen"])

    def _advised(self, step: Callable[[], Any]) -> Any:
        """Run a step of the model, with one line for whatever it raises."""
        try:
            return step()
        except (IsoScoreError, StopIteration):
            raise
        except Exception as error:
            size = self._source.provenance.get("batch_size")
            if (
                isinstance(error, MemoryError)
                or "out of memory" in str(error).lower()
                or ("can't allocate memory" in str(error))
            ):
                advice = "a smaller --max-tokens, a narrower --dtype, or fewer --layers"
                if size is not None and size > 1:
                    advice = f"--batch-size {max(1, size // 2)}, or {advice}"
                with_size = "" if size is None else f" with batch size {size}"
                raise InvalidValueError("model", f"out of memory{with_size}: give {advice}") from error
            name = self._source.provenance["class"]
            raise InvalidValueError("model", f"{name} fails on this input: {first_line(error)}") from error


def _settings(source: Source, options: Options, own: Ranks) -> dict[str, Any]:
    """Return what the result depends on."""
    device = None
    if "torch" in str(type(source)) or source.provenance.get("max_tokens") is not None or "images" in source.provenance:
        device = str(options.place().type)
    return {
        **source.provenance,
        "layers": None if options.layers is None else list(options.layers),
        "dtype": options.dtype,
        "device": device,
        "wanted_blocks": options.blocks,
        "wanted_sketch": options.sketch,
        "processes": own.size,
    }


def _long_sequences(found: Accumulated) -> set[int]:
    return {
        int(number)
        for block in found.blocks.values()
        for layer in block.values()
        for number in layer.farthest.sequences
    }


def _restored(path: Path, stored: Recorded) -> Scan:
    try:
        return built(stored.record, stored.arrays, stored.record["settings"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise FileContentError(path, f"lacks a part of a scan, or is damaged ({first_line(error)})") from error


def built(record: dict[str, Any], arrays: Arrays, settings: dict[str, Any]) -> Scan:
    """Return the scan of moments and their record; both are what `Scan.save` writes."""
    # A copy: measuring multiplies rows that wait, in place. It also makes a scan that is read the same to the bit.
    found = Accumulated.from_arrays(arrays, record["blocks"], record["names"])
    places = {int(number): place for number, place in record["places"].items()}
    layers, union = layers_of(found, lambda number: places.get(number, number))
    own = {key: value for key, value in record.items() if key != "settings"}

    def store(folder: Path, numbers: dict[str, Any]) -> None:
        kept = _files.Folder(folder, settings)
        kept.result()  # which refuses another scan
        kept.write_result(own, arrays, numbers)

    return Scan(
        settings["model"],
        tuple(layers),
        union,
        embeddings_of(found),
        tuple(record["notes"]),
        record["provenance"],
        store,
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that a scan may hang on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _require_at_least(least: int, **numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
            raise InvalidValueError(name, f"expected an integer from {least}; got {number!r}")
