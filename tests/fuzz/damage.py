"""Ways in which a file is damaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator
Content = bytes | dict[str, bytes]
"""Of a file, or of the files of a folder, by their paths in it."""
Damage = Callable[[Generator, bytearray], bytearray]

_ENDS = 400
"""Bytes at either end of a file, where headers and directories are."""


def _somewhere(rng: Generator, content: bytearray) -> int:
    """Draw a place: anywhere, or near the start or the end."""
    span = [len(content), min(len(content), _ENDS)][rng.integers(2)]
    place = int(rng.integers(span))
    return place if rng.random() < 0.5 else len(content) - 1 - place


def flips(rng: Generator, content: bytearray) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 5])):
        content[_somewhere(rng, content)] ^= 1 << rng.integers(8)
    return content


def other_bytes(rng: Generator, content: bytearray) -> bytearray:
    place, length = _somewhere(rng, content), int(rng.choice([1, 2, 4, 8]))
    new = [bytes(length), b"\xff" * length, rng.bytes(length), (2 ** int(rng.integers(8 * length)) - 1).to_bytes(8)][
        rng.integers(4)
    ]
    content[place : place + length] = new[-length:]
    return content


def truncation(rng: Generator, content: bytearray) -> bytearray:
    return content[: _somewhere(rng, content)]


def splice(rng: Generator, content: bytearray) -> bytearray:
    """Copy, move, repeat or lose a piece."""
    start, place, length = _somewhere(rng, content), _somewhere(rng, content), int(rng.integers(1, 200))
    piece = content[start : start + length]
    kind = rng.integers(3)
    if kind == 0:
        content[place : place + len(piece)] = piece
    elif kind == 1:
        content[place:place] = piece
    else:
        del content[start : start + length]
    return content


def edit_of_text(rng: Generator, content: bytearray) -> bytearray:
    """Change a letter or a digit of what is text in a header, or anywhere in a text file."""
    text = [i for i, byte in enumerate(content) if 32 <= byte < 127]
    near = [i for i in text if i < _ENDS or i >= len(content) - _ENDS]
    places = near if rng.random() < 0.7 else text
    if places:
        signs = b"0123456789" if rng.random() < 0.6 else b"',:<>|()[]{}-+.eE\\\"#\t\n \x1bOUSfiu"
        content[places[rng.integers(len(places))]] = signs[rng.integers(len(signs))]
    return content


DAMAGES: tuple[Damage, ...] = (flips, flips, other_bytes, truncation, splice, edit_of_text)


def damaged(rng: Generator, content: Content) -> tuple[Content, str]:
    """Damage a copy in one way or another, and say in which; in one case of twenty not at all.

    Of a folder one of its files, which may be lost.
    """
    if rng.random() < 0.05:
        return content, "whole"
    if isinstance(content, dict):
        name = sorted(content)[rng.integers(len(content))]
        rest = {other: own for other, own in content.items() if other != name}
        if rng.random() < 0.1:
            return rest, "loss"
        changed, damage_of_file = damaged(rng, content[name])
        assert isinstance(changed, bytes)
        return rest | {name: changed}, damage_of_file
    damage = DAMAGES[rng.integers(len(DAMAGES))]
    return bytes(damage(rng, bytearray(content))), damage.__name__
