"""What tells models, tokenizers and batches from others: hashes of all their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from isoscore_star import InvalidValueError, IsoScoreError
from isoscore_star.pretrained import first_line

_PROBED = 1000
"""As many texts of a tokenizer's are hashed, evenly spaced."""

_CHUNK = 2**24
"""Values of a weight that are on the host at a time."""


def fingerprint(model: Any) -> str:
    """Return SHA-256 of names, shapes and all values of the weights of a torch module."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        if tensor.device.type == "meta":
            continue
        values = tensor.detach()
        values = values.int_repr() if values.is_quantized else values.to_dense() if values.is_sparse else values
        flat = values.reshape(-1)
        for start in range(0, flat.numel(), _CHUNK):
            part = flat[start : start + _CHUNK]
            # bfloat16, which NumPy lacks, passes as bytes.
            digest.update(part.contiguous().view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def fingerprint_of_arrays(arrays: Iterable[Any]) -> str:
    """Return SHA-256 of shapes and all values of arrays of NumPy."""
    digest = hashlib.sha256()
    for array in arrays:
        _feed(digest, array)
    return digest.hexdigest()


def fingerprint_of_tokenizer(tokenizer: Any, encode: Callable[[list[str]], Any], texts: Sequence[str]) -> str:
    """Return SHA-256 of a tokenizer's class, vocabulary and special tokens, and of the ids of up to 1,000 of the texts.

    Raises
    ------
    InvalidValueError
        If it fails on the texts.
    """
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    known = {
        "class": type(tokenizer).__name__,
        "size": len(vocabulary),
        "special": sorted(map(repr, getattr(tokenizer, "special_tokens_map", {}).items())),
        "ids": sorted(getattr(tokenizer, "all_special_ids", [])),
    }
    digest = hashlib.sha256(json.dumps(known).encode())
    for word, number in sorted(vocabulary.items(), key=lambda item: str(item)):
        digest.update(f"{word}\0{number}\0".encode("utf-8", "surrogatepass"))
    try:
        rows = encode(list(texts[:: max(1, -(-len(texts) // _PROBED))]))["input_ids"]
    except Exception as error:  # of a tokenizer that is given, which may raise anything
        raise InvalidValueError(
            "tokenizer", f"{type(tokenizer).__name__} fails on these texts: {first_line(error)}"
        ) from error
    for row in rows:
        digest.update(f"{list(map(int, row))}".encode())
    return digest.hexdigest()


class HashedBatches:
    """Batches of inputs, hashed whole where they are in memory, else one by one as they are read.

    Attributes
    ----------
    fingerprint : str
        Of all batches that are in memory, else of the first one.
    seen : list of str
        A short hash of each batch read so far, where they are not in memory.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.seen: list[str] = []
        self._whole = isinstance(batches, (list, tuple)) or hasattr(batches, "shape")
        self._left: Iterator[Any] = iter(batches)
        if self._whole:
            self.fingerprint = fingerprint_of_batches(batches)
            return
        # The very iteration that is run: another one of a shuffling loader has other batches.
        try:
            first = list(_first(self._left))
        except IsoScoreError:
            raise
        except Exception as error:  # of a loader, which may raise anything
            raise InvalidValueError("batches", f"the first one cannot be had: {first_line(error)}") from error
        self.fingerprint = f"first batch {fingerprint_of_batches(first)}"
        self._left = chain(first, self._left)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._left:
            if not self._whole:
                self.seen.append(fingerprint_of_batches(batch)[:16])
            yield batch


def fingerprint_of_batches(batches: Any) -> str:
    """Return SHA-256 of arrays, tensors and plain values in any nesting."""
    digest = hashlib.sha256()
    _feed(digest, batches)
    return digest.hexdigest()


def described(mask: Any) -> str | bool | None:
    """Return what tells the choice of a mask from another: its name, and of a function also what it does."""
    if mask is None or isinstance(mask, (str, bool)):
        return mask
    name = getattr(mask, "__qualname__", type(mask).__qualname__)
    digest = hashlib.sha256()
    _feed_function(digest, mask)
    return f"{name} {digest.hexdigest()[:16]}"


def _feed_function(digest: Any, function: Any) -> None:
    """Hash code, defaults and what is bound; of any other callable its attributes."""
    if isinstance(function, partial):
        _feed(digest, [function.args, function.keywords])
        _feed_function(digest, function.func)
        return
    code = getattr(function, "__code__", None)
    if code is None:
        _feed(digest, [type(function).__qualname__, getattr(function, "__dict__", {})])
        return
    constants = [one for one in code.co_consts if not hasattr(one, "co_code")]
    digest.update(code.co_code + repr((code.co_names, constants)).encode())
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    _feed(digest, [function.__defaults__, function.__kwdefaults__, cells])


def _first(left: Iterator[Any]) -> Iterator[Any]:
    for batch in left:
        yield batch
        return


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"{key}:".encode())
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)}[".encode())
        for one in value:
            _feed(digest, one)
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        array = _array(value)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    elif isinstance(value, (str, bytes, int, float, type(None))):
        digest.update(repr(value).encode("utf-8", "backslashreplace"))
    elif hasattr(value, "__code__") or isinstance(value, partial):
        _feed_function(digest, value)
    else:
        # What an object of any other class is called may hold its address.
        digest.update(type(value).__qualname__.encode())


def _array(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value
    if hasattr(value, "detach"):
        import torch

        value = value.detach().cpu()
        try:
            return value.numpy()
        except TypeError:  # NumPy lacks bfloat16
            return (value.to_dense() if value.is_sparse else value).contiguous().view(torch.uint8).numpy()
    return np.asarray(value)
