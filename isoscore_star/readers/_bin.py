"""Files that end in .bin: word vectors in word2vec's binary format, or what torch.save wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from isoscore_star.readers._archive import no_keys
from isoscore_star.readers._errors import FileContentError, reading
from isoscore_star.readers._source import ArraySource, Block
from isoscore_star.readers._table import TableSource

_HEADER = re.compile(rb"(\d{1,18}) (\d{1,9})[ \r]*\n")
_LONGEST_HEADER, _LONGEST_WORD = 64, 4096
_CHUNK_BYTES = 2**22


def open_bin(path: Path, key: str | None) -> ArraySource:
    """Open a .bin file by its first bytes: word2vec's are two numbers and the end of a line."""
    with reading(path), path.open("rb") as file:
        header = _HEADER.match(file.read(_LONGEST_HEADER))
    if header is None:
        from isoscore_star.readers._torch import open_torch

        return open_torch(path, key)
    no_keys(path, key)
    count, dim = map(int, header.groups())
    # The shortest word is a letter; a blank ends it.
    least = header.end() + count * (4 * dim + 2)
    if not dim or least > path.stat().st_size:
        raise FileContentError(
            path,
            f"its first line promises {count:,} vectors of {dim:,} numbers, which take at least {least:,} bytes, but "
            f"it has {path.stat().st_size:,}",
        )
    words = _BinaryWords(path, header.end(), count, dim)
    return TableSource(str(path), (count, dim), words.blocks, ("read as word vectors in word2vec's binary format",))


@dataclass(frozen=True)
class _BinaryWords:
    """Layout of a file: after the first line, for each word its letters, a blank, and its numbers in float32."""

    path: Path
    start: int
    count: int
    dim: int

    def blocks(self, rows: int) -> Iterator[Block]:
        """Read all points."""
        with reading(self.path), self.path.open("rb") as file:
            file.seek(self.start)
            vectors = self._vectors(file)
            most = max(1, min(rows, _CHUNK_BYTES // (4 * self.dim)))
            for first in range(0, self.count, most):
                chunk = [next(vectors) for _ in range(min(most, self.count - first))]
                block = np.frombuffer(b"".join(chunk), "<f4").reshape(-1, self.dim)
                bad = ~np.isfinite(block).all(axis=1)
                if bad.any():
                    raise FileContentError(
                        self.path, f"vector {first + int(bad.argmax())} (counted from 0) has NaN or inf"
                    )
                yield block
            next(vectors, None)  # what follows the last

    def _vectors(self, file: IO[bytes]) -> Iterator[bytes]:
        """Return the bytes of each vector; gensim writes no end of a line after one, others do, but all alike."""
        buffer, place, size, ends = b"", 0, 4 * self.dim, None
        for i in range(self.count):
            needed = _LONGEST_WORD + size + 2
            if len(buffer) - place < needed:
                buffer, place = buffer[place:] + file.read(max(_CHUNK_BYTES, needed)), 0
            own_end = buffer[place : place + 1] == b"\n"
            if i == 1:
                ends = own_end
            if i and own_end != ends:
                raise self._damaged(i)
            place += own_end
            # A damaged file has bytes of numbers for words; they hold control characters more often than not.
            blank = buffer.find(b" ", place, place + _LONGEST_WORD)
            word = buffer[place:blank]
            if blank <= place or len(buffer) < blank + 1 + size or min(word) < ord(b" "):
                raise self._damaged(i)
            place = blank + 1 + size
            yield buffer[place - size : place]
        rest = buffer[place:] + file.read(2)
        if rest not in (b"", b"\n") or (ends is not None and rest != (b"\n" if ends else b"")):
            raise FileContentError(self.path, f"is damaged: {len(rest):,} or more bytes follow the last of its vectors")

    def _damaged(self, i: int) -> FileContentError:
        return FileContentError(self.path, f"is damaged: vector {i} (counted from 0) does not begin with its word")
