"""Which tokens of a sequence stand for all of them.

Not every n-th one, from the first on: the first tokens of sentences, [CLS] and those after it, are unlike the others,
and would be most of a small sample. Places are one in each of as many equal parts of a sequence, elsewhere in the part
from sequence to sequence, so that every token is as likely as any other. The same batch gives the same sample.
"""

from __future__ import annotations

from typing import Any

_PHASES = 256
_STEP = 157  # about a golden section of the phases, so that those of few sequences in a row lie far apart


def tokens_taken(tokens: Any, most: int, total: Any) -> Any:
    """Return how many of a sequence's tokens are taken, for about `most` of a `total`; at least one."""
    return -(-tokens * most // total)


def token_places(sequence: Any, part: Any, tokens: Any, taken: Any) -> Any:
    """Return the place of the token of a part, 0 to taken − 1, of a sequence, by its number (integers, or arrays)."""
    phase = (sequence + part) * _STEP % _PHASES
    return (part * _PHASES + phase) * tokens // (_PHASES * taken)
