"""Which tokens of a sequence stand for all: one in each part, and each as likely as any other."""

from __future__ import annotations

import numpy as np
import pytest

from isoscore_star.core.places import token_places, tokens_taken


@pytest.mark.parametrize(
    ("tokens", "taken"), [(32, 1), (32, 2), (25, 2), (100, 7), (512, 512), (3, 2), (100, 64), (50, 7)]
)
def test_one_of_each_part_and_all_alike(tokens: int, taken: int) -> None:
    sequences = np.arange(4096)[:, None]
    places = token_places(sequences, np.arange(taken), tokens, taken)
    assert places.min() >= 0
    assert places.max() < tokens
    # In each sequence there is one in each part, which begins and ends between tokens.
    parts = np.arange(taken + 1) * tokens / taken
    assert ((places >= np.floor(parts[:-1])) & (places < parts[1:])).all()
    # Over the sequences every token is met as often: of 256 places in a part, one more or less.
    often = np.bincount(places.ravel(), minlength=tokens) / len(sequences)
    assert np.abs(often - taken / tokens).max() <= 2 / 256


def test_how_many() -> None:
    assert tokens_taken(25, 512, 25 * 64 * 6) == 2  # 1.33 of each sequence and layer
    assert tokens_taken(25, 512, 1_000_000) == 1
    assert tokens_taken(25, 512, 500) > 25  # all
